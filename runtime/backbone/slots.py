# SPDX-License-Identifier: Apache-2.0
"""How many rows each slot of a KV cache holds; the same bookkeeping for every engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duologue.runtime.config import LmConfig
from duologue.runtime.core import IntArray
from duologue.runtime.errors import ConfigError, EngineError

KV_MEMORY_HINT = "lower --max-slots, or limits.max_rows of the bundle"


class SlotTable:
    """Rows per slot, with the checks that keep a mistake out of other sequences' memory.

    Args:
        lm: shape of the model.
        max_slots: seats.
        max_rows: rows per seat.

    Raises:
        ConfigError: no seat or no row, or more rows than the model has positions.
    """

    def __init__(self, lm: LmConfig, max_slots: int, max_rows: int) -> None:
        if max_slots < 1:
            raise ConfigError(f"max_slots is {max_slots}; allowed: 1 or more")
        if not 1 <= max_rows <= lm.max_position_embeddings:
            raise ConfigError(
                f"max_rows is {max_rows}; allowed: 1 to lm.max_position_embeddings = "
                f"{lm.max_position_embeddings}"
            )
        self._vocab_sizes = np.array(lm.vocab_sizes)
        self._max_slots = max_slots
        self._max_rows = max_rows
        self._rows: dict[int, int] = {}

    def rows(self, slot: int) -> int:
        """Rows that a slot holds.

        Raises:
            EngineError: there is no such slot.
        """
        if not 0 <= slot < self._max_slots:
            raise EngineError(f"slot is {slot}; allowed: 0 to {self._max_slots - 1}")
        return self._rows.get(slot, 0)

    def set(self, slot: int, num_rows: int) -> None:
        """Note that a slot now holds `num_rows` rows.

        Raises:
            EngineError: there is no such slot, or it is too short.
        """
        self.rows(slot)
        if num_rows > self._max_rows:
            raise EngineError(f"slot {slot} gets {num_rows} rows; allowed: {self._max_rows}")
        self._rows[slot] = num_rows

    def check_prefill(self, slot: int, input_ids: IntArray, start: int) -> None:
        """Check a piece of a prompt [S, K] before it is read.

        Raises:
            EngineError: the piece does not follow what the slot holds, is empty or too long, or
                has an id outside its vocabulary.
        """
        if start != self.rows(slot):
            raise EngineError(f"slot {slot} holds {self.rows(slot)} rows; start is {start}")
        if len(input_ids) < 1 or start + len(input_ids) > self._max_rows:
            raise EngineError(
                f"slot {slot} gets rows {start} to {start + len(input_ids)}; "
                f"allowed: at least one, and up to row {self._max_rows}"
            )
        self._check_ids(input_ids)

    def check_decode(self, slots: Sequence[int], input_ids: IntArray) -> None:
        """Check one row [B, K] for each of B slots before they are read.

        Raises:
            EngineError: a slot comes twice, holds nothing or is full, or an id lies outside its
                vocabulary.
        """
        if len(set(slots)) != len(slots) or len(slots) != len(input_ids):
            raise EngineError(f"{len(input_ids)} rows for slots {list(slots)}; allowed: one each")
        for slot in slots:
            if not 0 < self.rows(slot) < self._max_rows:
                raise EngineError(
                    f"slot {slot} holds {self.rows(slot)} rows; "
                    f"allowed before a decode step: 1 to {self._max_rows - 1}"
                )
        self._check_ids(input_ids)

    def _check_ids(self, input_ids: IntArray) -> None:
        num_channels = len(self._vocab_sizes)
        if input_ids.ndim != 2 or input_ids.shape[1] != num_channels:
            raise EngineError(f"input_ids is {input_ids.shape}; allowed: [rows, {num_channels}]")
        outside = (input_ids < 0) | (input_ids >= self._vocab_sizes)
        if outside.any():
            row, channel = (int(place[0]) for place in outside.nonzero())
            raise EngineError(
                f"id {int(input_ids[row, channel])} in channel {channel}; "
                f"allowed: 0 to {self._vocab_sizes[channel] - 1}"
            )
