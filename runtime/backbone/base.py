# SPDX-License-Identifier: Apache-2.0
"""The door of the backbone room: what every engine of the language model offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray, Logits


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What an engine is and how much it holds.

    Attributes:
        lm: shape of the model.
        engine: "torch", "onnx" or "trtllm".
        dtype: precision of the weights, e.g. "float32" or "int8".
        max_slots: sequences in the KV cache at the same time.
        max_rows: rows that one slot holds.
        kv_bytes_per_row: memory of the KV cache per row of one slot.
    """

    lm: LmConfig
    engine: str
    dtype: str
    max_slots: int
    max_rows: int
    kv_bytes_per_row: int

    @property
    def kv_bytes(self) -> int:
        """Memory of the whole KV cache."""
        return self.max_slots * self.max_rows * self.kv_bytes_per_row


class PrefixHandle(Protocol):
    """Keys and values of a prefix, kept outside the slots so that they can be reused."""

    @property
    def num_rows(self) -> int:
        """Rows of the prefix."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory that the handle holds."""
        ...


class Backbone(Protocol):
    """A causal language model over K channels.

    Owns weights and KV cache; knows nothing of delay, sampling or audio. Used from one
    thread. The logits of a sequence do not depend, bit for bit, on what the other slots hold
    nor on how many sequences share a call.
    """

    @property
    def spec(self) -> BackboneSpec:
        """What this engine is."""
        ...

    def prefill(
        self, slot: int, input_ids: IntArray, start: int = 0, *, is_last: bool = True
    ) -> Logits | None:
        """Read rows [start, start + S) of a prompt into a slot.

        Args:
            slot: seat in the KV cache.
            input_ids: [S, K].
            start: rows of this sequence that the slot holds already.
            is_last: whether the logits behind the last row are wanted.

        Returns:
            Logits of one row (B = 1), or None unless `is_last`.
        """
        ...

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        """Append one row to each of B sequences.

        Args:
            slots: B different seats.
            input_ids: [B, K].

        Returns:
            Logits of B rows, in the order of `slots`.
        """
        ...

    def save_prefix(self, slot: int, num_rows: int) -> PrefixHandle:
        """Copy the keys and values of the first rows of a slot."""
        ...

    def load_prefix(self, slot: int, handle: PrefixHandle) -> None:
        """Put a saved prefix into an empty slot; prefill goes on at `handle.num_rows`."""
        ...

    def release(self, slot: int) -> None:
        """Forget the sequence in a slot."""
        ...

    def close(self) -> None:
        """Give memory and threads back."""
        ...


@runtime_checkable
class ShowsHidden(Protocol):
    """An engine that lets one see behind its last layer, so that engines can be compared."""

    def prefill_hidden(self, slot: int, input_ids: IntArray, start: int = 0) -> FloatArray:
        """Read rows as `Backbone.prefill` does.

        Args:
            slot: seat in the KV cache.
            input_ids: [S, K].
            start: rows of this sequence that the slot holds already.

        Returns:
            [hidden size] float32: the last row behind the final norm, in front of the heads.
        """
        ...
