# SPDX-License-Identifier: Apache-2.0
"""The engine for CPUs: onnxruntime over static KV slots, without torch.

The graph is `build_engines/lm_onnx.py`'s. Its keys and values are bound as input and as output to
the same memory, so a step writes one row per sequence and copies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.onnx_call import GraphCall, GraphMemory
from duologue.runtime.backbone.onnx_session import OnnxSession
from duologue.runtime.backbone.rotary import rotary_tables
from duologue.runtime.backbone.slots import KV_MEMORY_HINT, SlotTable
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray, Logits
from duologue.runtime.errors import ConfigError, EngineError

MAX_GAP = 4
"""Slots between two that are decoded, up to which computing them idly costs less than a second
run over the weights (measured: a run costs as much as 4 to 8 further rows)."""

MAX_BOUND_STEPS = 64
"""Spans of slots whose bindings are kept; those of one span take some 10 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class OnnxPrefix:
    """Keys and values [layers, kv heads, rows, head_dim] of a prefix."""

    keys: FloatArray
    values: FloatArray

    @property
    def num_rows(self) -> int:
        """Rows of the prefix."""
        return int(self.keys.shape[2])

    @property
    def num_bytes(self) -> int:
        """Memory that the handle holds."""
        return self.keys.nbytes + self.values.nbytes


class OnnxBackbone:
    """A `Backbone` on onnxruntime's CPU provider.

    The logits of a decode step are the same, bit for bit, whatever the batch, the neighbours and
    the number of threads. A prompt gives the same bits whenever it is read in the same pieces.

    Args:
        lm: shape of the model.
        graph_path: the graph; its weights lie beside it.
        max_slots: sequences at the same time. Memory of a slot is taken when it is first used.
        max_rows: rows per sequence.
        dtype: precision of the stored weights, for `spec`.
        num_threads: of one step; None takes the cores that this process may use, at most 16.

    Raises:
        ConfigError: a value is out of range, the graph or its weights cannot be loaded, or memory
            does not suffice.
    """

    def __init__(
        self,
        lm: LmConfig,
        graph_path: Path,
        *,
        max_slots: int,
        max_rows: int,
        dtype: str = "float32",
        num_threads: int | None = None,
    ) -> None:
        self._slots = SlotTable(lm, max_slots, max_rows)
        self._session = OnnxSession(graph_path, num_threads)
        self.spec = BackboneSpec(
            lm=lm,
            engine="onnx",
            dtype=dtype,
            max_slots=max_slots,
            max_rows=max_rows,
            kv_bytes_per_row=lm.kv_elements_per_row * np.dtype(np.float32).itemsize,
        )
        self._memory = GraphMemory(self.spec, rotary_tables(lm, max_rows), *_allocate(self.spec))
        self._steps: dict[range, GraphCall] = {}

    def prefill(
        self, slot: int, input_ids: IntArray, start: int = 0, *, is_last: bool = True
    ) -> Logits | None:
        """Read rows [start, start + S) of a prompt; see `base.Backbone.prefill`.

        Raises:
            EngineError: the piece does not fit the slot, or onnxruntime failed.
        """
        self._slots.check_prefill(slot, input_ids, start)
        logits = self._run(slot, input_ids)
        self._slots.set(slot, start + len(input_ids))
        return Logits(logits, self.spec.lm.logit_offsets) if is_last else None

    def prefill_hidden(self, slot: int, input_ids: IntArray, start: int = 0) -> FloatArray:
        """Read rows of a prompt and give the last hidden state; see `base.ShowsHidden`.

        Raises:
            EngineError: the piece does not fit the slot, or the graph is older than this output.
        """
        self._slots.check_prefill(slot, input_ids, start)
        hidden: FloatArray = np.empty(self.spec.lm.hidden_size, np.float32)
        self._run(slot, input_ids, {"hidden": hidden[None]})
        self._slots.set(slot, start + len(input_ids))
        return hidden

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        """Append one row to each of B sequences; see `base.Backbone.decode`.

        Raises:
            EngineError: the rows do not fit the slots, or onnxruntime failed.
        """
        self._slots.check_decode(slots, input_ids)
        first = slots[0]
        if list(slots) == list(range(first, first + len(slots))):
            logits = self._step(range(first, first + len(slots)), input_ids).copy()
        else:
            logits = self._scattered(slots, input_ids)
        for slot in slots:
            self._slots.set(slot, self._slots.rows(slot) + 1)
        return Logits(logits, self.spec.lm.logit_offsets)

    def save_prefix(self, slot: int, num_rows: int) -> OnnxPrefix:
        """Copy the keys and values of the first rows of a slot.

        Raises:
            EngineError: the slot holds fewer rows.
        """
        if not 0 < num_rows <= self._slots.rows(slot):
            raise EngineError(f"num_rows is {num_rows}; allowed: 1 to {self._slots.rows(slot)}")
        keys, values = (
            [table[slot, :, :num_rows] for table in kind] for kind in self._memory.tables
        )
        return OnnxPrefix(np.stack(keys), np.stack(values))

    def load_prefix(self, slot: int, handle: PrefixHandle) -> None:
        """Put a prefix saved by this engine into an empty slot.

        Raises:
            EngineError: the slot is not empty, or the handle is another engine's.
        """
        if not isinstance(handle, OnnxPrefix) or self._slots.rows(slot) != 0:
            raise EngineError(f"slot {slot} takes an OnnxPrefix while it is empty")
        self._slots.set(slot, handle.num_rows)
        for tables, saved in zip(self._memory.tables, (handle.keys, handle.values), strict=True):
            for table, rows in zip(tables, saved, strict=True):
                table[slot, :, : handle.num_rows] = rows

    def release(self, slot: int) -> None:
        """Forget the sequence in a slot."""
        self._slots.set(slot, 0)

    def close(self) -> None:
        """Give memory and threads back; the engine cannot be used afterwards."""
        del self._session
        self._steps.clear()
        del self._memory

    def _scattered(self, slots: Sequence[int], input_ids: IntArray) -> FloatArray:
        """Logits [B, sum(V_c)] of a step of slots in any order, with gaps or without."""
        lm = self.spec.lm
        logits = np.empty((len(slots), lm.logit_offsets[-1]), np.float32)
        rows = {slot: row for row, slot in enumerate(slots)}
        for span in self._spans(sorted(slots)):
            ids = np.zeros((len(span), lm.num_channels), np.int64)
            members = [slot for slot in span if slot in rows]
            places = [slot - span.start for slot in members]
            wanted = [rows[slot] for slot in members]
            ids[places] = input_ids[wanted]
            logits[wanted] = self._step(span, ids)[places]
        return logits

    def _spans(self, slots: Sequence[int]) -> Iterator[range]:
        """Stretches of neighbouring slots that are run together, short gaps included.

        A sequence in a gap is computed along and its row thrown away: what is written behind its
        last row is overwritten by its own next step. So it needs one free row.
        """
        begin = last = slots[0]
        for slot in slots[1:]:
            gap = range(last + 1, slot)
            if len(gap) > MAX_GAP or any(self._is_full(idle) for idle in gap):
                yield range(begin, last + 1)
                begin = slot
            last = slot
        yield range(begin, last + 1)

    def _is_full(self, slot: int) -> bool:
        return self._slots.rows(slot) >= self.spec.max_rows

    def _step(self, span: range, input_ids: IntArray) -> FloatArray:
        """Read [B, K] behind what the slots of a span hold; logits are good until the next step."""
        call = self._steps.get(span)
        if call is None:
            while len(self._steps) >= MAX_BOUND_STEPS:
                self._steps.pop(next(iter(self._steps)))
            call = self._steps[span] = self._memory.bind(self._session, span, 1)
        call.run(input_ids[:, None], [self._slots.rows(slot) for slot in span])
        return call.logits

    def _run(
        self, slot: int, input_ids: IntArray, wanted: Mapping[str, FloatArray] | None = None
    ) -> FloatArray:
        """Read a piece [S, K] behind what a slot holds; returns logits [1, sum(V_c)].

        Args:
            slot: which.
            input_ids: [S, K].
            wanted: further outputs of the graph and where to write them.
        """
        span = range(slot, slot + 1)
        call = self._memory.bind(self._session, span, len(input_ids), wanted)
        call.run(input_ids[None], [self._slots.rows(slot)])
        return call.logits


def _allocate(spec: BackboneSpec) -> tuple[list[FloatArray], list[FloatArray]]:
    """Keys and values per layer [max_slots, kv heads, max_rows, head_dim].

    Fresh pages of zeros: the system hands out memory only when a row is written.
    """
    lm = spec.lm
    shape = (spec.max_slots, lm.num_kv_heads, spec.max_rows, lm.head_dim)
    try:
        keys = [np.zeros(shape, np.float32) for _ in range(lm.num_layers)]
        values = [np.zeros(shape, np.float32) for _ in range(lm.num_layers)]
    except MemoryError as error:
        raise ConfigError(
            f"the KV cache takes {spec.kv_bytes / 2**30:.1f} GiB, which this machine does not "
            f"have: {KV_MEMORY_HINT}"
        ) from error
    return keys, values
