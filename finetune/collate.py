# SPDX-License-Identifier: Apache-2.0
"""From examples to batches: the delay, then padding on the right.

Source: OpenMOSS/MOSS-TTSD v0.7, `finetune/finetune.py` (`truncate_and_shift` and the collator).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from duologue.finetune.errors import DataError
from duologue.finetune.rows import IGNORED, TrainingRow
from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import IntArray
from duologue.runtime.lm.delay import DelayPattern

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes batches of examples.

    Attributes:
        input_delay: the delay pattern whose fills are the pads of each channel.
        max_length: rows of the longest sequence; what is longer is cut off.
        vocab_sizes: of the model's channels; examples with other ids are refused, for on their
            way through an embedding they would end the process. None lets all through.
    """

    input_delay: DelayPattern
    max_length: int = 16000
    vocab_sizes: tuple[int, ...] | None = None

    @staticmethod
    def for_model(lm: LmConfig, tokens: TokenIds, max_length: int = 16000) -> Collator:
        """The collator of a model."""
        fills = (tokens.pad, *[tokens.speech_pad] * (lm.num_channels - 1))
        return Collator(DelayPattern(lm.delays, fills), max_length, lm.vocab_sizes)

    @property
    def _label_delay(self) -> DelayPattern:
        delays = self.input_delay.delays
        return DelayPattern(delays, (IGNORED,) * len(delays))

    def shift(self, row: TrainingRow) -> TrainingRow:
        """Delay an example's ids and labels: [T, K] becomes [T + max_delay, K]."""
        voices = row.voices
        if voices is not None:
            # A row speaks in the voice of its first channel, which is not delayed.
            padding = (0, self.input_delay.max_delay)
            voices = np.pad(voices, padding, constant_values=IGNORED)
        return TrainingRow(
            self.input_delay.apply(row.input_ids), self._label_delay.apply(row.labels), voices
        )

    def __call__(self, rows: Sequence[TrainingRow]) -> Batch:
        """Delay, cut and pad examples.

        Returns:
            `input_ids` and `labels` [B, S, K] and `attention_mask` [B, S], all int64; `voices`
            [B, S], too, where the examples have them.

        Raises:
            DataError: an example has other channels than the model, or ids that it has not.
        """
        for row in rows:
            self._check(row.input_ids)
        shifted = [self.shift(row) for row in rows]
        lengths = [min(len(row.input_ids), self.max_length) for row in shifted]
        shape = (len(rows), max(lengths), len(self.input_delay.delays))
        input_ids: IntArray = np.empty(shape, dtype=np.int64)
        input_ids[:] = self.input_delay.fills
        labels: IntArray = np.full(shape, IGNORED, dtype=np.int64)
        mask: IntArray = np.zeros(shape[:2], dtype=np.int64)
        voices: IntArray = np.full(shape[:2], IGNORED, dtype=np.int64)
        for place, (row, length) in enumerate(zip(shifted, lengths, strict=True)):
            input_ids[place, :length] = row.input_ids[:length]
            labels[place, :length] = row.labels[:length]
            mask[place, :length] = 1
            if row.voices is not None:
                voices[place, :length] = row.voices[:length]
        batch = {"input_ids": input_ids, "labels": labels, "attention_mask": mask}
        if any(row.voices is not None for row in rows):
            batch["voices"] = voices
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _check(self, input_ids: IntArray) -> None:
        """See to it that the ids of an example [T, K] are ids of the model."""
        num_channels = len(self.input_delay.delays)
        if input_ids.shape[1] != num_channels:
            raise DataError(f"the data has {input_ids.shape[1]} channels; wanted: {num_channels}")
        for channel, size in enumerate(self.vocab_sizes or ()):
            lowest, highest = int(input_ids[:, channel].min()), int(input_ids[:, channel].max())
            if lowest < 0 or highest >= size:
                found = lowest if lowest < 0 else highest
                raise DataError(
                    f"channel {channel} of the data has the id {found}; allowed: 0 to {size - 1}: "
                    "was it prepared for another model?"
                )
