# SPDX-License-Identifier: Apache-2.0
"""Batches of about the same number of rows, each of examples of about the same length.

Little is padded, and a step costs the same whether the examples are short or long.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from duologue.finetune.errors import DataError

# Lengths are blurred by this share before they are sorted, so that every epoch has other batches.
_BLUR = 0.1


class LengthBatches(torch.utils.data.Sampler[list[int]]):
    """Indices of batches, other ones in every epoch, shared out to several processes.

    Args:
        lengths: rows of each example.
        groups: of each example; a batch holds examples of one group. None: all are of one.
        max_rows: rows of a batch with its padding; a longer example is a batch of its own.
        max_examples: examples of a batch.
        seed: of the order.
        rank, num_ranks: this process, and how many there are; each gets as many batches.
        shuffle: False keeps the batches in the order of length, and shows some of them twice
            where the processes could not share them out otherwise.

    Raises:
        DataError: there are fewer batches than processes.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        *,
        max_rows: int,
        max_examples: int,
        seed: int,
        groups: npt.NDArray[np.int64] | None = None,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle: bool = True,
    ) -> None:
        self._lengths, self._max_rows, self._max_examples = lengths, max_rows, max_examples
        self._groups = np.zeros(len(lengths), dtype=np.int64) if groups is None else groups
        self._seed, self._rank, self._num_ranks, self._shuffle = seed, rank, num_ranks, shuffle
        self._epoch = 0
        # An epoch has as many batches as the first one, so that a run's length is known ahead.
        num_batches = len(self._batches(0))
        self._num_batches = num_batches // num_ranks if shuffle else -(-num_batches // num_ranks)
        if self._num_batches == 0:
            raise DataError(f"{len(lengths)} examples are too few for {num_ranks} processes")

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of an epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches(self._epoch)
        wanted = self._num_batches * self._num_ranks
        repeated = [batches[place % len(batches)] for place in range(wanted)]
        yield from repeated[self._rank :: self._num_ranks]

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = np.random.default_rng((self._seed, epoch))
        blur = generator.uniform(1, 1 + _BLUR, len(self._lengths)) if self._shuffle else 1.0
        order = np.argsort(self._lengths * blur, kind="stable")
        batches = [
            batch
            for group in np.unique(self._groups)
            for batch in self._cut(order[self._groups[order] == group])
        ]
        if self._shuffle:
            batches = [batches[place] for place in generator.permutation(len(batches))]
        return batches

    def _cut(self, order: npt.NDArray[np.int64]) -> Iterator[list[int]]:
        """Batches out of examples in the order of their lengths."""
        current: list[int] = []
        longest = 0
        for index in order:
            longest = max(longest, int(self._lengths[index]))
            is_full = len(current) == self._max_examples
            if current and (is_full or (len(current) + 1) * longest > self._max_rows):
                yield current
                current, longest = [], int(self._lengths[index])
            current.append(int(index))
        if current:
            yield current
