# SPDX-License-Identifier: Apache-2.0
"""The parts of a step by the kernels of `torch_kernels`. Importing this file needs `triton`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton

from duologue.runtime.backbone.torch_kernels import (
    add_norm_kernel,
    attend_kernel,
    gate_kernel,
    join_kernel,
    store_kernel,
)
from duologue.runtime.backbone.torch_narrow_ops import multiply_narrow
from duologue.runtime.backbone.torch_ops import StepRows
from duologue.runtime.backbone.torch_rows import Tensor
from duologue.runtime.backbone.torch_weights import NarrowWeight, Weight
from duologue.runtime.config import LmConfig

_STRETCH = 128
_BLOCK_ROWS = 64
_JOINED_AT_ONCE = 16
_LEAST_DOT = 16
"""Sides of the smallest product of tiles."""
_GATE_BLOCK = 1024
_PROGRAMS_PER_CORE = 4

KernelError: type[Exception] = triton.TritonError
"""What a kernel raises that cannot be compiled for a GPU."""


class KernelOps:
    """`StepOps` by kernels of our own.

    Args:
        lm: shape of the model.
        num_cores: multiprocessors of the GPU, so that attention keeps all of them busy.
        in_float32: products with matrices in 8 bits are made in float32, for want of better units.
    """

    def __init__(self, lm: LmConfig, *, num_cores: int, in_float32: bool = False) -> None:
        self._lm, self._num_cores, self._in_float32 = lm, num_cores, in_float32

    def add_norm(self, hidden: Tensor, update: Tensor | None, weight: Tensor) -> Tensor:
        """See `StepOps.add_norm`."""
        normed = torch.empty_like(hidden)
        batch, width = hidden.shape
        add_norm_kernel[(batch,)](
            hidden,
            hidden if update is None else update,
            weight,
            normed,
            width,
            self._lm.rms_norm_eps,
            HAS_UPDATE=update is not None,
            BLOCK=triton.next_power_of_2(width),
        )
        return normed

    def store(
        self,
        joined: Tensor,
        norms: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        rows: StepRows,
    ) -> Tensor:
        """See `StepOps.store`."""
        lm, (keys, values) = self._lm, cache
        query = joined.new_empty(len(joined), lm.num_heads, lm.head_dim)
        store_kernel[(len(joined), lm.num_heads + 2 * lm.num_kv_heads)](
            joined,
            *norms,
            rows.cos,
            rows.sin,
            rows.seats,
            rows.places,
            query,
            keys,
            values,
            lm.rms_norm_eps,
            keys.stride(0),
            keys.stride(1),
            NUM_HEADS=lm.num_heads,
            NUM_KV_HEADS=lm.num_kv_heads,
            HALF=lm.head_dim // 2,
            BLOCK=triton.next_power_of_2(lm.head_dim // 2),
        )
        return query

    def attend(self, query: Tensor, cache: tuple[Tensor, Tensor], rows: StepRows) -> Tensor:
        """See `StepOps.attend`."""
        lm, (keys, values), batch = self._lm, cache, len(query)
        group = lm.num_heads // lm.num_kv_heads
        num_stretches = triton.cdiv(keys.shape[2], _STRETCH)
        shape = batch, lm.num_kv_heads, num_stretches, group
        peaks, sums = (query.new_empty(shape, dtype=torch.float32) for _ in range(2))
        parts = query.new_empty((*shape, lm.head_dim), dtype=torch.float32)
        wanted = triton.cdiv(_PROGRAMS_PER_CORE * self._num_cores, batch * lm.num_kv_heads)
        sizes = {
            "GROUP": group,
            "HEAD_DIM": lm.head_dim,
            "STRETCH": _STRETCH,
            "BLOCK_DIM": max(_LEAST_DOT, triton.next_power_of_2(lm.head_dim)),
        }
        attend_kernel[(batch, lm.num_kv_heads, min(wanted, num_stretches))](
            query,
            keys,
            values,
            rows.seats,
            rows.lengths,
            parts,
            peaks,
            sums,
            lm.head_dim**-0.5,
            keys.stride(0),
            keys.stride(1),
            num_stretches,
            **sizes,
            BLOCK_GROUP=max(_LEAST_DOT, triton.next_power_of_2(group)),
            BLOCK_ROWS=_BLOCK_ROWS,
        )
        mixed = torch.empty_like(query)
        join_kernel[(batch, lm.num_heads)](
            parts, peaks, sums, rows.lengths, mixed, num_stretches, **sizes, BLOCK=_JOINED_AT_ONCE
        )
        return mixed.flatten(1)

    def gate(self, joined: Tensor) -> Tensor:
        """See `StepOps.gate`."""
        batch, width = len(joined), joined.shape[1] // 2
        gated = joined.new_empty(batch, width)
        grid = (batch, triton.cdiv(width, _GATE_BLOCK))
        gate_kernel[grid](joined, gated, width, BLOCK=_GATE_BLOCK)
        return gated

    def project(self, values: Tensor, weight: Weight) -> Tensor:
        """See `StepOps.project`."""
        if isinstance(weight, NarrowWeight):
            return multiply_narrow(values, weight, in_float32=self._in_float32)
        return F.linear(values, weight)
