# SPDX-License-Identifier: Apache-2.0
"""Where each seated sequence stands, in tables on the device.

One row per slot, and one more that always rests: it fills up a batch that is short.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from duologue.runtime.backbone.device import DeviceSequence
from duologue.runtime.backbone.torch_columns import HeadColumns
from duologue.runtime.backbone.torch_rows import Tensor, upload
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import EngineError

_LENGTH, _STEP, _LEFT, _LIMIT = range(4)
_NUM_SCALARS = 4
_PARTS = (
    *("length", "step", "left", "limit", "row", "speech", "end_column"),
    *("fills", "fill_columns", "top_k", "does_sample", "forced"),
)
_ENDLESS = -1
"""`_LEFT` before the trigger."""


@dataclass(frozen=True, slots=True, eq=False)
class StepView:
    """The sequences of one step, gathered from the tables; B rows.

    Attributes:
        length: [B], rows in the KV cache.
        step: [B], rows written.
        left: [B], rows still to be written, or -1 before the trigger.
        limit: [B], rows at which the sequence ends.
        row: [B, K], the row to be read.
        speech: [B, 2], first id of speech and the one behind the last.
        end_column: [B], column of the end of speech.
        fills, fill_columns: [B, K], what a drained channel writes; its column.
        top_k, does_sample: [B, K].
        forced: [B, max(1, max_delay), K].
        penalty, temperature, top_p: [B, K] in float64.
        seen: [B, W], what penalties look at, or None.
    """

    length: Tensor
    step: Tensor
    left: Tensor
    limit: Tensor
    row: Tensor
    speech: Tensor
    end_column: Tensor
    fills: Tensor
    fill_columns: Tensor
    top_k: Tensor
    does_sample: Tensor
    forced: Tensor
    penalty: Tensor
    temperature: Tensor
    top_p: Tensor
    seen: Tensor | None

    @property
    def is_active(self) -> Tensor:
        """[B]: takes a step; a sequence that has ended rests."""
        return (self.step < self.limit) & (self.left != 0)


class SlotStates:
    """The tables.

    Args:
        lm: shape of the model.
        columns: of the scores.
        max_slots: seats.
        device: where.

    Attributes:
        idle: place of the row that always rests.
        numbers: [max_slots + 1, all widths], see `places`.
        reals: [max_slots + 1, 3 * K], penalties, temperatures, top-p, in float64.
        seen: [max_slots + 1, W + 1], histories; the last column takes what has none.
        column_of: [sum(V_c)], see `HeadColumns`.
    """

    def __init__(
        self, lm: LmConfig, columns: HeadColumns, max_slots: int, device: torch.device
    ) -> None:
        self.idle = max_slots
        self._lm, self._columns, self._device = lm, columns, device
        channels, depth = lm.num_channels, max(1, lm.max_delay)
        self._widths = [1, 1, 1, 1, channels, 2, 1, *[channels] * 4, depth * channels]
        self.numbers = torch.zeros(max_slots + 1, sum(self._widths), dtype=torch.int64).to(device)
        self.reals = torch.ones(max_slots + 1, 3 * channels, dtype=torch.float64).to(device)
        self.seen = torch.zeros(max_slots + 1, columns.width + 1, dtype=torch.bool).to(device)
        self._true = torch.ones((), dtype=torch.bool, device=device)
        self.column_of = upload(columns.column_of, device)
        self._first_rows = upload(np.array(lm.logit_offsets[:-1]), device)

    def seat(self, slot: int, length: int, sequence: DeviceSequence) -> None:
        """Write the row of a slot whose cache holds `length` rows.

        Raises:
            EngineError: the end of speech is not among the columns.
        """
        table = sequence.sampling
        reals = np.concatenate([table[:, 0], table[:, 1], table[:, 3]])
        self.numbers[slot] = upload(self._pack(length, sequence), self._device)
        self.reals[slot] = upload(reals, self._device)
        if sequence.seen is not None:
            seen = np.zeros(self._columns.width + 1, dtype=np.bool_)
            seen[:-1] = sequence.seen[self._columns.rows]
            self.seen[slot] = upload(seen, self._device)

    @property
    def places(self) -> dict[str, int]:
        """Where each part begins in a row of `numbers`; parts are as in `StepView`."""
        return dict(zip(_PARTS, itertools.accumulate(self._widths, initial=0), strict=False))

    def rest(self, slot: int) -> None:
        """Let the sequence in a slot take no more steps."""
        self.numbers[slot, _LIMIT] = 0

    def look(self, places: Tensor, *, has_history: bool) -> StepView:
        """Gather the rows of a step [B]."""
        numbers = self.numbers.index_select(0, places)
        reals = self.reals.index_select(0, places)
        length, step, left, limit = numbers[:, :_NUM_SCALARS].unbind(1)
        parts = torch.split(numbers, self._widths, dim=1)[_NUM_SCALARS:]
        row, speech, end_column, fills, fill_columns, top_k, does_sample, forced = parts
        penalty, temperature, top_p = reals.chunk(3, dim=1)
        return StepView(
            length,
            step,
            left,
            limit,
            row,
            speech,
            end_column[:, 0],
            fills,
            fill_columns,
            top_k,
            does_sample > 0,
            forced.reshape(len(numbers), -1, self._lm.num_channels),
            penalty,
            temperature,
            top_p,
            self.seen.index_select(0, places)[:, :-1] if has_history else None,
        )

    def write(self, places: Tensor, view: StepView, after: StepView) -> None:
        """Put back what a step changed: scalars and row of those who took it; note their ids."""
        changed = torch.stack([after.length, after.step, after.left, after.limit], dim=1)
        unchanged = torch.stack([view.length, view.step, view.left, view.limit], dim=1)
        is_active = view.is_active[:, None]
        joined = torch.where(
            is_active,
            torch.cat([changed, after.row], dim=1),
            torch.cat([unchanged, view.row], dim=1),
        )
        self.numbers[:, : joined.shape[1]].index_copy_(0, places, joined)
        if view.seen is not None:
            columns = self.column_of[after.row + self._first_rows]
            columns = torch.where(is_active, columns, self._columns.width)
            self.seen.index_put_((places[:, None], columns), self._true)

    def _pack(self, length: int, sequence: DeviceSequence) -> np.ndarray:  # type: ignore[type-arg]
        channels, width = self._lm.num_channels, self._columns.width
        first_rows = np.array(self._lm.logit_offsets[:-1])
        end_column = int(self._columns.column_of[sequence.end_of_speech])
        if end_column == width:
            raise EngineError(
                f"the end of speech is id {sequence.end_of_speech}, which channel0_ids leave out"
            )
        # A pad of channel 0 is never chosen by ban, so it needs no column.
        fill_columns = self._columns.column_of[first_rows + sequence.fills]
        left = _ENDLESS if sequence.rows_to_drain is None else sequence.rows_to_drain
        top_k = np.minimum(sequence.sampling[:, 2], width).astype(np.int64)
        forced = np.zeros((max(1, self._lm.max_delay), channels), dtype=np.int64)
        forced[: len(sequence.forced)] = sequence.forced
        parts = [
            [length, sequence.num_steps, left, sequence.max_steps],
            sequence.last_row,
            [sequence.speech_start, sequence.speech_stop, end_column],
            sequence.fills,
            fill_columns,
            top_k,
            sequence.sampling[:, 4] > 0,
            forced.ravel(),
        ]
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
