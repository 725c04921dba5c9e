# SPDX-License-Identifier: Apache-2.0
"""Where training rows come from: our dataset, the reference's files, or a part of either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from duologue.finetune.collate import Collator
from duologue.finetune.dataset import DATASET_FILE, SpeechDataset
from duologue.finetune.errors import DataError
from duologue.finetune.reference_files import read_reference
from duologue.finetune.rows import IGNORED, TrainingRow

_NUM_LOOKED_AT = 8


class RowSource(Protocol):
    """Examples by number, with their lengths known ahead."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """T of each example."""
        ...

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """Which part of the data each example is of; a batch holds examples of one part."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices whose numbers the rows hold; none where they do not say."""
        ...

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def __getitem__(self, index: int) -> TrainingRow:
        """One example."""
        ...


class RowList:
    """Examples in memory."""

    def __init__(self, rows: Sequence[TrainingRow]) -> None:
        self._rows = rows
        self.lengths = np.array([len(row.input_ids) for row in rows])
        self.groups = np.zeros(len(rows), dtype=np.int64)
        self.voices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TrainingRow:
        return self._rows[index]


class RowSubset:
    """Some examples of another source.

    Args:
        source: the other one.
        indices: which, in order.
    """

    def __init__(self, source: RowSource, indices: npt.NDArray[np.int64]) -> None:
        self._source, self._indices = source, indices
        self.lengths = source.lengths[indices]
        self.groups = source.groups[indices]
        self.voices = source.voices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> TrainingRow:
        return self._source[int(self._indices[index])]


class RowUnion:
    """Several sources one after the other; each is a group of its own.

    Args:
        sources: at least one.

    Raises:
        DataError: some name voices, and others do not, or others.
    """

    def __init__(self, sources: Sequence[RowSource]) -> None:
        self._sources = sources
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        self.lengths = np.concatenate([source.lengths for source in sources])
        self.groups = np.repeat(np.arange(len(sources)), np.diff(self._starts))
        self.voices = sources[0].voices
        for source in sources[1:]:
            if source.voices != self.voices:
                raise DataError(
                    f"the parts of the data name different voices: {list(self.voices)} and "
                    f"{list(source.voices)}; allowed: parts that were made in one go"
                )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> TrainingRow:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._sources[part][index - int(self._starts[part])]


def open_rows(*directories: Path) -> RowSource:
    """Open prepared data of either format; of several folders, each is a group of its own.

    Args:
        directories: a dataset of ours, or `.pkl` files with their `_metas.npy`.

    Raises:
        DataError: there is neither, it is damaged, or the folders do not go together.
    """
    return _join([_open(directory) for directory in directories])


def _open(directory: Path) -> RowSource:
    if not directory.is_dir():
        raise DataError(f"{directory} is no folder; allowed: a folder that prepare has filled")
    if (directory / DATASET_FILE).is_file():
        return SpeechDataset(directory)
    files = sorted(directory.glob("*.pkl"))
    rows = [row for file in files for row in read_reference(file)]
    if not rows:
        raise DataError(
            f"{directory} has no training data; allowed: a folder with {DATASET_FILE}, or with "
            ".pkl files and their _metas.npy"
        )
    return RowList(rows)


def split_rows(
    source: RowSource, eval_fraction: float, seed: int
) -> tuple[RowSource, RowSource | None]:
    """Keep a share of the examples for evaluation.

    Args:
        source: all examples.
        eval_fraction: 0 keeps none.
        seed: of the choice.

    Raises:
        DataError: one of the two parts would be empty.
    """
    if eval_fraction == 0:
        return source, None
    num_kept = max(1, round(len(source) * eval_fraction))
    if not 0 < eval_fraction < 1 or num_kept >= len(source):
        raise DataError(
            f"eval_fraction is {eval_fraction} of {len(source)} examples; allowed: a share that "
            "leaves examples for training"
        )
    order = np.random.default_rng(seed).permutation(len(source))
    return RowSubset(source, order[num_kept:]), RowSubset(source, order[:num_kept])


def open_parts(
    directories: Sequence[Path], eval_fraction: float, seed: int
) -> tuple[RowSource, RowSource | None]:
    """Open folders, and keep a share of each for evaluation.

    Args:
        directories: see `open_rows`. One that is named twice has twice as many batches, and is
            split once: no example is both learnt and held out.
        eval_fraction: 0 keeps none.
        seed: of the choice.

    Raises:
        DataError: see `open_rows` and `split_rows`.
    """
    parts = {path: split_rows(_open(path), eval_fraction, seed) for path in set(directories)}
    train = [parts[path][0] for path in directories]
    held_out = [part for path in dict.fromkeys(directories) if (part := parts[path][1])]
    return _join(train), _join(held_out) if held_out else None


def check_rows(source: RowSource, collator: Collator) -> None:
    """See to it that the first examples of each part fit a model, and teach it something.

    Args:
        source: training data, or data for evaluation.
        collator: of the model; it refuses what does not fit.

    Raises:
        DataError: other channels, ids out of range, or nothing but ignored labels.
    """
    for group in np.unique(source.groups):
        first = np.flatnonzero(source.groups == group)[:_NUM_LOOKED_AT]
        labels = collator([source[int(index)] for index in first])["labels"]
        if bool((labels == IGNORED).all()):
            raise DataError(
                f"the labels of the first {len(first)} examples are all ignored within "
                f"{collator.max_length} rows; nothing can be learnt"
            )


def _join(sources: Sequence[RowSource]) -> RowSource:
    return sources[0] if len(sources) == 1 else RowUnion(sources)
