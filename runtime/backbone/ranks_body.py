# SPDX-License-Identifier: Apache-2.0
"""A body that reads rows, and the backbone that is made of it.

The body is what a rank holds: embeddings, layers, keys and values. One step of it reads pieces of
several sequences at once, prompts and single rows mixed; so a step is one message to the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.slots import SlotTable
from duologue.runtime.core import FloatArray, IntArray, Logits
from duologue.runtime.errors import EngineError

Hidden: TypeAlias = Any
"""Last hidden states [B, hidden size], behind the final norm, wherever the body keeps them."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows that one sequence reads in a step.

    Attributes:
        slot: seat of the sequence.
        start: rows that the slot holds already.
        input_ids: [S, K].
        is_prompt: they belong to a prompt; else they are the one row of a decode step.
    """

    slot: int
    start: int
    input_ids: IntArray
    is_prompt: bool

    @property
    def stop(self) -> int:
        """Rows that the slot holds afterwards."""
        return self.start + len(self.input_ids)


class Body(Protocol):
    """Embeddings, layers and heads, with keys and values of all slots. Checks nothing."""

    @property
    def spec(self) -> BackboneSpec:
        """What this engine is."""
        ...

    def step(self, pieces: Sequence[Piece]) -> Hidden:
        """Read pieces of different slots; the last rows [B, hidden size], in their order."""
        ...

    def logits(self, hidden: Hidden) -> FloatArray:
        """Logits [B, sum(V_c)] float32."""
        ...

    def to_numpy(self, hidden: Hidden) -> FloatArray:
        """Hidden states [B, hidden size] float32."""
        ...

    def save(self, slot: int, num_rows: int) -> PrefixHandle:
        """Copy the keys and values of the first rows of a slot."""
        ...

    def load(self, slot: int, handle: PrefixHandle) -> None:
        """Put a saved prefix into an empty slot."""
        ...

    def free(self, slot: int) -> None:
        """Forget what a slot holds."""
        ...

    def close(self) -> None:
        """Give memory back."""
        ...


class BodyBackbone:
    """A `Backbone` over a body, with the bookkeeping of slots.

    Args:
        body: reads the rows.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self.spec = body.spec
        self._slots = SlotTable(self.spec.lm, self.spec.max_slots, self.spec.max_rows)

    def prefill(
        self, slot: int, input_ids: IntArray, start: int = 0, *, is_last: bool = True
    ) -> Logits | None:
        """Read rows [start, start + S) of a prompt; see `base.Backbone.prefill`.

        Raises:
            EngineError: the piece does not fit the slot, or the engine failed.
        """
        self._slots.check_prefill(slot, input_ids, start)
        hidden = self._step([Piece(slot, start, input_ids, is_prompt=True)])
        return self._wrap(hidden) if is_last else None

    def prefill_hidden(self, slot: int, input_ids: IntArray, start: int = 0) -> FloatArray:
        """Read rows of a prompt and give the last hidden state; see `base.ShowsHidden`.

        Raises:
            EngineError: the piece does not fit the slot, or the engine failed.
        """
        self._slots.check_prefill(slot, input_ids, start)
        hidden = self._step([Piece(slot, start, input_ids, is_prompt=True)])
        states: FloatArray = self._body.to_numpy(hidden)
        last: FloatArray = states[0]
        return last

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        """Append one row to each of B sequences; see `base.Backbone.decode`.

        Raises:
            EngineError: the rows do not fit the slots, or the engine failed.
        """
        self._slots.check_decode(slots, input_ids)
        return self._wrap(self._step(self._rows(slots, input_ids)))

    def mixed(
        self, prompts: Sequence[tuple[int, IntArray, int]], slots: Sequence[int], rows: IntArray
    ) -> Logits:
        """Read pieces of prompts and append rows to other sequences in one step.

        Args:
            prompts: slot, input_ids [S, K] and start of each piece.
            slots: B seats whose sequences get a row.
            rows: [B, K].

        Returns:
            Logits of the pieces' last rows, then of the B rows.

        Raises:
            EngineError: a piece does not fit its slot, a slot comes twice, or the engine failed.
        """
        for slot, input_ids, start in prompts:
            self._slots.check_prefill(slot, input_ids, start)
        self._slots.check_decode(slots, rows)
        pieces = [Piece(slot, start, ids, is_prompt=True) for slot, ids, start in prompts]
        pieces += self._rows(slots, rows)
        if len({piece.slot for piece in pieces}) != len(pieces):
            raise EngineError("a slot comes twice in one step; allowed: different slots")
        return self._wrap(self._step(pieces))

    def save_prefix(self, slot: int, num_rows: int) -> PrefixHandle:
        """Copy the keys and values of the first rows of a slot.

        Raises:
            EngineError: the slot holds fewer rows.
        """
        if not 0 < num_rows <= self._slots.rows(slot):
            raise EngineError(f"num_rows is {num_rows}; allowed: 1 to {self._slots.rows(slot)}")
        return self._body.save(slot, num_rows)

    def load_prefix(self, slot: int, handle: PrefixHandle) -> None:
        """Put a prefix saved by this engine into an empty slot.

        Raises:
            EngineError: the slot is not empty, or the handle is another engine's.
        """
        if self._slots.rows(slot) != 0:
            raise EngineError(f"slot {slot} takes a prefix while it is empty")
        self._body.load(slot, handle)
        self._slots.set(slot, handle.num_rows)

    def release(self, slot: int) -> None:
        """Forget the sequence in a slot."""
        self._slots.set(slot, 0)
        self._body.free(slot)

    def close(self) -> None:
        """Give memory back; the engine cannot be used afterwards."""
        self._body.close()

    def _rows(self, slots: Sequence[int], input_ids: IntArray) -> list[Piece]:
        return [
            Piece(slot, self._slots.rows(slot), row[None], is_prompt=False)
            for slot, row in zip(slots, input_ids, strict=True)
        ]

    def _step(self, pieces: Sequence[Piece]) -> Hidden:
        hidden = self._body.step(pieces)
        for piece in pieces:
            self._slots.set(piece.slot, piece.stop)
        return hidden

    def _wrap(self, hidden: Hidden) -> Logits:
        values = np.ascontiguousarray(self._body.logits(hidden), np.float32)
        return Logits(values, self.spec.lm.logit_offsets)
