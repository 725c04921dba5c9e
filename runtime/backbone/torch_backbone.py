# SPDX-License-Identifier: Apache-2.0
"""The reference engine: plain torch, eager, which all other engines must equal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.precision import Attention
from duologue.runtime.backbone.slots import KV_MEMORY_HINT, SlotTable
from duologue.runtime.backbone.torch_body import TorchBody
from duologue.runtime.backbone.torch_rows import KvCache, Tensor, make_rows, upload
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray, Logits
from duologue.runtime.errors import ConfigError, EngineError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, eq=False)
class TorchPrefix:
    """Keys and values [layers, kv heads, rows, head_dim] of a prefix, on the device."""

    keys: Tensor
    values: Tensor

    @property
    def num_rows(self) -> int:
        """Rows of the prefix."""
        return self.keys.shape[2]

    @property
    def num_bytes(self) -> int:
        """Memory that the handle holds."""
        return self.keys.nbytes + self.values.nbytes


class TorchBackbone:
    """A `Backbone` in plain torch.

    On a CPU the sequences of a decode step share matrix products of one fixed height, so that a
    sequence does not depend, bit for bit, on its neighbours (see `torch_body.linear_in_groups`).
    On a GPU they share one batch, where the last bits may depend on its size.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`, or its copy with matrices in 8 bits.
        max_slots: sequences at the same time.
        max_rows: rows per sequence.
        dtype: "float32", "float16" or "bfloat16", of weights and KV cache.
        device: "cpu", "cuda" or "cuda:N".
        attention: how attention is computed, see `precision`.

    Raises:
        ConfigError: a value is out of range, the weights do not fit the model, or memory does
            not suffice.
    """

    _SPARE_ROWS: ClassVar[int] = 0
    """Rows of each slot's cache behind the last one that a sequence may use."""
    _KEEPS_NARROW: ClassVar[bool] = False
    """Whether matrices in 8 bits stay so; the reference computes with what they mean."""

    def __init__(
        self,
        lm: LmConfig,
        weights_path: Path,
        *,
        max_slots: int,
        max_rows: int,
        dtype: str = "float32",
        device: str = "cpu",
        attention: Attention = "sdpa",
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
        self._slots = SlotTable(lm, max_slots, max_rows)
        self._device = torch.device(device)
        kind = DTYPES[dtype]
        self._body = TorchBody(
            lm,
            weights_path,
            max_rows,
            kind,
            self._device,
            attention,
            keeps_narrow=self._KEEPS_NARROW,
        )
        self.spec = BackboneSpec(
            lm=lm,
            engine="torch",
            dtype=self._body.quantization or dtype,
            max_slots=max_slots,
            max_rows=max_rows,
            kv_bytes_per_row=lm.kv_elements_per_row * kind.itemsize,
        )
        self._cache = _allocate(self.spec, kind, device, max_rows + self._SPARE_ROWS)

    def prefill(
        self, slot: int, input_ids: IntArray, start: int = 0, *, is_last: bool = True
    ) -> Logits | None:
        """Read rows [start, start + S) of a prompt; see `base.Backbone.prefill`.

        Raises:
            EngineError: the piece does not fit the slot.
        """
        self._slots.check_prefill(slot, input_ids, start)
        hidden = self._forward([slot], input_ids[None])
        return self._wrap(hidden) if is_last else None

    def prefill_hidden(self, slot: int, input_ids: IntArray, start: int = 0) -> FloatArray:
        """Read rows of a prompt and give the last hidden state; see `base.ShowsHidden`.

        Raises:
            EngineError: the piece does not fit the slot.
        """
        self._slots.check_prefill(slot, input_ids, start)
        hidden: FloatArray = self._forward([slot], input_ids[None])[0].float().cpu().numpy()
        return hidden

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        """Append one row to each of B sequences; see `base.Backbone.decode`.

        Raises:
            EngineError: the rows do not fit the slots.
        """
        self._slots.check_decode(slots, input_ids)
        return self._wrap(self._forward(slots, input_ids[:, None]))

    def save_prefix(self, slot: int, num_rows: int) -> TorchPrefix:
        """Copy the keys and values of the first rows of a slot.

        Raises:
            EngineError: the slot holds fewer rows.
        """
        if not 0 < num_rows <= self._slots.rows(slot):
            raise EngineError(f"num_rows is {num_rows}; allowed: 1 to {self._slots.rows(slot)}")
        keys = [keys[slot, :, :num_rows] for keys in self._cache.keys]
        values = [values[slot, :, :num_rows] for values in self._cache.values]
        with self._on_stream():
            return TorchPrefix(torch.stack(keys), torch.stack(values))

    def load_prefix(self, slot: int, handle: PrefixHandle) -> None:
        """Put a prefix saved by this engine into an empty slot.

        Raises:
            EngineError: the slot is not empty, or the handle is another engine's.
        """
        if not isinstance(handle, TorchPrefix) or self._slots.rows(slot) != 0:
            raise EngineError(f"slot {slot} takes a TorchPrefix while it is empty")
        self._slots.set(slot, handle.num_rows)
        with self._on_stream():
            for layer in range(self.spec.lm.num_layers):
                self._cache.keys[layer][slot, :, : handle.num_rows] = handle.keys[layer]
                self._cache.values[layer][slot, :, : handle.num_rows] = handle.values[layer]

    def release(self, slot: int) -> None:
        """Forget the sequence in a slot."""
        self._slots.set(slot, 0)

    def close(self) -> None:
        """Give the memory of the KV cache back; the engine cannot be used afterwards."""
        self._cache = KvCache([], [])

    def _on_stream(self) -> AbstractContextManager[object]:
        """Where the device's work is queued."""
        return nullcontext()

    @torch.inference_mode()
    def _forward(self, slots: Sequence[int], input_ids: IntArray) -> Tensor:
        """Read [B, S, K] behind what the slots hold; returns the last rows [B, hidden size]."""
        starts = [self._slots.rows(slot) for slot in slots]
        num_rows = input_ids.shape[1]
        with self._on_stream():
            rows = make_rows(slots, starts, num_rows, self._device)
            hidden = self._body.forward(upload(input_ids, self._device), rows, self._cache)
        for slot, start in zip(slots, starts, strict=True):
            self._slots.set(slot, start + num_rows)
        return hidden

    @torch.inference_mode()
    def _wrap(self, hidden: Tensor) -> Logits:
        with self._on_stream():
            values = self._body.logits(hidden).cpu().numpy()
        return Logits(values, self.spec.lm.logit_offsets)


def _allocate(spec: BackboneSpec, dtype: torch.dtype, device: str, num_rows: int) -> KvCache:
    lm = spec.lm
    shape = (spec.max_slots, lm.num_kv_heads, num_rows, lm.head_dim)
    try:
        tables = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2 * lm.num_layers)]
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(
            f"the KV cache takes {spec.kv_bytes / 2**30:.1f} GiB, which {device} does not have: "
            f"{KV_MEMORY_HINT}"
        ) from error
    return KvCache(tables[: lm.num_layers], tables[lm.num_layers :])
