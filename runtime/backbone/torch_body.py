# SPDX-License-Identifier: Apache-2.0
"""The Qwen3 body between K embeddings and K heads, in plain torch.

Sources: huggingface/transformers, `models/qwen3/modeling_qwen3.py`; OpenMOSS/MOSS-TTSD v0.7,
`modeling_asteroid.py` for the embeddings, which are a plain sum over all channels, pads included.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, HEAD
from duologue.runtime.backbone.precision import Attention
from duologue.runtime.backbone.rotary import rotary_tables
from duologue.runtime.backbone.torch_rows import KvCache, Rows, Tensor
from duologue.runtime.backbone.torch_weights import multiply, read_weights
from duologue.runtime.config import LmConfig

GROUP = 8
"""Height of the products of a decode step on a CPU, always: see `linear_in_groups`."""


class TorchBody:
    """Weights of a language model on a device, and its forward pass.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`, or its copy with matrices in 8 bits.
        max_rows: positions to prepare for.
        dtype: of weights, activations and KV cache.
        device: where.
        attention: how attention is computed, see `precision`.
        keeps_narrow: matrices in 8 bits stay so on the device.

    Attributes:
        weights: embedding and norms by name, as `layout.lm_shapes` names them.
        matrices: what values are multiplied with, as `layout.matrix_shapes` names it.
        quantization: "int8" or "fp8" if matrices are narrow.
        cos, sin: rotary tables [max_rows, head_dim / 2].
        is_cpu: where a row's bits must not depend on its neighbours.

    Raises:
        ConfigError: the file is damaged, or a tensor is missing or of another shape.
    """

    def __init__(
        self,
        lm: LmConfig,
        weights_path: Path,
        max_rows: int,
        dtype: torch.dtype,
        device: torch.device,
        attention: Attention = "sdpa",
        *,
        keeps_narrow: bool = False,
    ) -> None:
        self.lm = lm
        self._attention_kind = attention
        self.is_cpu = device.type == "cpu"
        read = read_weights(lm, weights_path, dtype, device, keeps_narrow=keeps_narrow)
        self.weights, self.matrices = read.tensors, read.matrices
        self.quantization = read.quantization
        tables = rotary_tables(lm, max_rows)
        self.cos, self.sin = (torch.from_numpy(t).to(device, dtype) for t in tables)
        self._offsets = torch.tensor(lm.logit_offsets[:-1], device=device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [B, sum(V_c)] in float32 of what `forward` gave."""
        return self._project(HEAD, hidden[:, None])[:, 0].float()

    def forward(self, input_ids: Tensor, rows: Rows, cache: KvCache) -> Tensor:
        """Read rows [B, S, K] into the cache; returns the last, normed: [B, hidden size]."""
        embedded = F.embedding(input_ids + self._offsets, self.weights[EMBEDDING])
        hidden = embedded.sum(dim=2)
        for layer in range(self.lm.num_layers):
            hidden = self._layer(layer, hidden, rows, cache)
        return self._norm(FINAL_NORM, hidden[:, -1])

    def _layer(self, layer: int, hidden: Tensor, rows: Rows, cache: KvCache) -> Tensor:
        prefix = f"layers.{layer}."
        normed = self._norm(f"{prefix}input_layernorm.weight", hidden)
        hidden = hidden + self._attention(layer, normed, rows, cache)
        normed = self._norm(f"{prefix}post_attention_layernorm.weight", hidden)
        gate, up = self._project(f"{prefix}gate_up_proj.weight", normed).chunk(2, dim=-1)
        return hidden + self._project(f"{prefix}down_proj.weight", F.silu(gate) * up)

    def _attention(self, layer: int, hidden: Tensor, rows: Rows, cache: KvCache) -> Tensor:
        lm, prefix = self.lm, f"layers.{layer}."
        joined = self._project(f"{prefix}qkv_proj.weight", hidden)
        heads = joined.view(*joined.shape[:-1], -1, lm.head_dim)
        widths = [lm.num_heads, lm.num_kv_heads, lm.num_kv_heads]
        query, key, value = torch.split(heads, widths, dim=2)
        query = self._rotate(self._norm(f"{prefix}q_norm.weight", query), rows.positions)
        key = self._rotate(self._norm(f"{prefix}k_norm.weight", key), rows.positions)
        keys, values = cache.keys[layer], cache.values[layer]
        keys[rows.slots[:, None], :, rows.positions] = key
        values[rows.slots[:, None], :, rows.positions] = value
        query = query.transpose(1, 2)
        if self.is_cpu and query.shape[2] == 1:
            mixed = _mix_row_by_row(query, keys, values, rows)
        else:
            mixed = self._mix(
                query,
                keys[rows.slots, :, : rows.longest],
                values[rows.slots, :, : rows.longest],
                rows,
            )
        return self._project(f"{prefix}o_proj.weight", mixed.transpose(1, 2).flatten(2))

    def _mix(self, query: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
        """Attention of [B, heads, S, head_dim] over [B, kv heads, R, head_dim]."""
        batch, _, num_rows, _ = query.shape
        if self._attention_kind == "flash" and batch == 1 and num_rows in (1, rows.longest):
            # The kernel takes no mask: one row sees all there is, a whole prompt is causal.
            return F.scaled_dot_product_attention(
                query, keys, values, is_causal=num_rows > 1, enable_gqa=True
            )
        mask = torch.arange(rows.longest, device=query.device) <= rows.positions[:, None, :, None]
        if self._attention_kind == "eager":
            return attend(query, keys, values, mask)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)

    def _project(self, name: str, values: Tensor) -> Tensor:
        """Multiply [B, S, in] with a weight."""
        weight = self.matrices[name]
        if self.is_cpu and values.shape[1] == 1:
            return multiply(values[:, 0], weight, linear_in_groups)[:, None]
        return multiply(values, weight)

    def _norm(self, name: str, values: Tensor) -> Tensor:
        return rms_norm(values, self.weights[name], self.lm.rms_norm_eps)

    def _rotate(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Rotate [B, S, heads, head_dim]."""
        return rotate(heads, self.cos[positions][:, :, None], self.sin[positions][:, :, None])


def rms_norm(values: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale [..., d] to a mean square of 1, in float32, and by a weight [d]."""
    wide = values.float()
    mean_square = wide.square().mean(-1, keepdim=True)
    scaled = wide * torch.rsqrt(mean_square + eps)
    return weight * scaled.to(values.dtype)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [..., d]: its first half against its second, by angles [..., d / 2]."""
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def linear_in_groups(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply [B, in] with [out, in], always `GROUP` rows at a time.

    Products of different height round differently on a CPU. In products of one height a row's
    bits depend neither on its place nor on the other rows, zeros that fill it up included.
    """
    if len(values) > GROUP:
        return torch.cat([linear_in_groups(group, weight) for group in torch.split(values, GROUP)])
    missing = GROUP - len(values)
    filled = F.pad(values, (0, 0, 0, missing)) if missing else values
    return F.linear(filled, weight)[: len(values)]


def _mix_row_by_row(query: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """Attention of one new row [B, heads, 1, head_dim] per sequence over all rows of its slot.

    Each over its own length: no mask, no copy of keys, and nothing that depends on neighbours.
    """
    mixed = [
        F.scaled_dot_product_attention(
            query[place : place + 1],
            keys[seat : seat + 1, :, :length],
            values[seat : seat + 1, :, :length],
            enable_gqa=True,
        )
        for place, (seat, length) in enumerate(zip(rows.seats, rows.lengths, strict=True))
    ]
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention in plain matrix products, the softmax in float32.

    Args:
        query: [B, heads, S, head_dim].
        keys: [B, kv heads, R, head_dim]; neighbouring query heads share one of them.
        values: like the keys.
        mask: [B, 1, S, R], True where a row may look.

    Returns:
        [B, heads, S, head_dim].
    """
    sharers = query.shape[1] // keys.shape[1]
    keys, values = (table.repeat_interleave(sharers, dim=1) for table in (keys, values))
    scores = (query @ keys.transpose(2, 3)).float() * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    mixed: Tensor = weights.to(values.dtype) @ values
    return mixed
