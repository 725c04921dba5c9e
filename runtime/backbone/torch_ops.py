# SPDX-License-Identifier: Apache-2.0
"""What a decode step is made of, one row per sequence, in plain torch.

The same in fused kernels: `torch_kernels`. Everything is of fixed shape and never waits, so that
it can be captured in a CUDA graph; lengths live on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from duologue.runtime.backbone.precision import Attention
from duologue.runtime.backbone.torch_body import attend, linear_in_groups, rms_norm, rotate
from duologue.runtime.backbone.torch_weights import Weight, multiply
from duologue.runtime.config import LmConfig

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """The rows of a decode step.

    Attributes:
        seats: [B] slots.
        places: [B], where in its slot each row goes.
        lengths: [B], rows that attention reads, the new one included.
        cos, sin: [B, head_dim / 2], angles of the rows.
    """

    seats: Tensor
    places: Tensor
    lengths: Tensor
    cos: Tensor
    sin: Tensor


class StepOps(Protocol):
    """The parts of a step that differ between plain torch and fused kernels."""

    def add_norm(self, hidden: Tensor, update: Tensor | None, weight: Tensor) -> Tensor:
        """Add `update` to `hidden` [B, H] in place, and give the norm of the sum [B, H]."""
        ...

    def store(
        self,
        joined: Tensor,
        norms: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        rows: StepRows,
    ) -> Tensor:
        """Norm and rotate queries and keys, and put keys and values into the cache.

        Args:
            joined: [B, (heads + 2 * kv heads) * head_dim].
            norms: weights [head_dim] of queries and of keys.
            cache: keys and values of a layer, [slots, kv heads, rows, head_dim].
            rows: where they go.

        Returns:
            Queries [B, heads, head_dim].
        """
        ...

    def attend(self, query: Tensor, cache: tuple[Tensor, Tensor], rows: StepRows) -> Tensor:
        """Attention of the queries over the live rows of their slots: [B, heads * head_dim]."""
        ...

    def gate(self, joined: Tensor) -> Tensor:
        """Of [B, 2 * I]: the first half's SiLU times the second half."""
        ...

    def project(self, values: Tensor, weight: Weight) -> Tensor:
        """Multiply [B, in] with [out, in]."""
        ...


class PlainOps:
    """`StepOps` by torch's own operations. Attention reads whole slots under a mask.

    Args:
        lm: shape of the model.
        is_cpu: products are made in groups, as `torch_body.linear_in_groups` explains.
        attention: "eager" avoids scaled_dot_product_attention.
    """

    def __init__(self, lm: LmConfig, *, is_cpu: bool, attention: Attention = "sdpa") -> None:
        self._lm, self._is_cpu, self._attention = lm, is_cpu, attention

    def add_norm(self, hidden: Tensor, update: Tensor | None, weight: Tensor) -> Tensor:
        """See `StepOps.add_norm`."""
        if update is not None:
            hidden += update
        return rms_norm(hidden, weight, self._lm.rms_norm_eps)

    def store(
        self,
        joined: Tensor,
        norms: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        rows: StepRows,
    ) -> Tensor:
        """See `StepOps.store`."""
        lm, eps = self._lm, self._lm.rms_norm_eps
        heads = joined.view(len(joined), -1, lm.head_dim)
        widths = [lm.num_heads, lm.num_kv_heads, lm.num_kv_heads]
        query, key, value = torch.split(heads, widths, dim=1)
        cos, sin = rows.cos[:, None], rows.sin[:, None]
        cache[0][rows.seats, :, rows.places] = rotate(rms_norm(key, norms[1], eps), cos, sin)
        cache[1][rows.seats, :, rows.places] = value
        return rotate(rms_norm(query, norms[0], eps), cos, sin)

    def attend(self, query: Tensor, cache: tuple[Tensor, Tensor], rows: StepRows) -> Tensor:
        """See `StepOps.attend`."""
        keys, values = (table.index_select(0, rows.seats) for table in cache)
        is_live = torch.arange(keys.shape[2], device=query.device) < rows.lengths[:, None]
        mask, query = is_live[:, None, None], query[:, :, None]
        if self._attention == "eager":
            return attend(query, keys, values, mask).flatten(1)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
        return mixed.flatten(1)

    def gate(self, joined: Tensor) -> Tensor:
        """See `StepOps.gate`."""
        gate, up = joined.chunk(2, dim=-1)
        return F.silu(gate) * up

    def project(self, values: Tensor, weight: Weight) -> Tensor:
        """See `StepOps.project`."""
        return multiply(values, weight, linear_in_groups if self._is_cpu else F.linear)
