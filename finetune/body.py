# SPDX-License-Identifier: Apache-2.0
"""The Qwen3 body for training: whole sequences at once, no cache.

Modules are named as in huggingface/transformers, `models/qwen3/modeling_qwen3.py`, so that
adapters find their targets and checkpoints their tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from duologue.runtime.backbone.rotary import rotary_tables
from duologue.runtime.config import LmConfig

Tensor = torch.Tensor
Tables = tuple[Tensor, Tensor]
# On a CPU torch's own attention takes six times as long as plain products for short sequences;
# for long ones the square of scores would cost too much memory.
_MAX_PLAIN_ROWS = 1024


class RmsNorm(nn.Module):
    """Divides by the root of the mean square, then scales."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, values: Tensor) -> Tensor:
        """Normalise the last dimension; the type stays."""
        weight = self.weight.to(values.dtype)
        return F.rms_norm(values, self.weight.shape, weight, self._eps)


class Attention(nn.Module):
    """Causal attention whose queries and keys are normalised per head, then rotated."""

    def __init__(self, lm: LmConfig) -> None:
        super().__init__()
        query, key = lm.num_heads * lm.head_dim, lm.num_kv_heads * lm.head_dim
        self.q_proj = nn.Linear(lm.hidden_size, query, bias=False)
        self.k_proj = nn.Linear(lm.hidden_size, key, bias=False)
        self.v_proj = nn.Linear(lm.hidden_size, key, bias=False)
        self.o_proj = nn.Linear(query, lm.hidden_size, bias=False)
        self.q_norm = RmsNorm(lm.head_dim, lm.rms_norm_eps)
        self.k_norm = RmsNorm(lm.head_dim, lm.rms_norm_eps)
        self._head_dim = lm.head_dim

    def forward(self, hidden: Tensor, tables: Tables) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        query = rotate(self.q_norm(self._heads(self.q_proj(hidden))), tables)
        key = rotate(self.k_norm(self._heads(self.k_proj(hidden))), tables)
        value = self._heads(self.v_proj(hidden))
        mixed = attend(query, key, value)
        joined: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return joined

    def _heads(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], -1, self._head_dim).transpose(1, 2)


class Mlp(nn.Module):
    """The gated feed-forward part."""

    def __init__(self, lm: LmConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(lm.hidden_size, lm.intermediate_size, bias=False)
        self.up_proj = nn.Linear(lm.hidden_size, lm.intermediate_size, bias=False)
        self.down_proj = nn.Linear(lm.intermediate_size, lm.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        joined: Tensor = self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return joined


class Layer(nn.Module):
    """One layer: attention, then feed-forward, each on a normalised copy of the stream."""

    def __init__(self, lm: LmConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(lm.hidden_size, lm.rms_norm_eps)
        self.self_attn = Attention(lm)
        self.post_attention_layernorm = RmsNorm(lm.hidden_size, lm.rms_norm_eps)
        self.mlp = Mlp(lm)

    def forward(self, hidden: Tensor, tables: Tables) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        hidden = hidden + self.self_attn(_narrow(self.input_layernorm(hidden)), tables)
        joined: Tensor = hidden + self.mlp(_narrow(self.post_attention_layernorm(hidden)))
        return joined


class Body(nn.Module):
    """All layers and the last norm."""

    def __init__(self, lm: LmConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(lm) for _ in range(lm.num_layers))
        self.norm = RmsNorm(lm.hidden_size, lm.rms_norm_eps)


def rotary(lm: LmConfig, num_rows: int, device: torch.device) -> Tables:
    """Cosines and sines [S, head_dim / 2] of the positions 0 .. S - 1."""
    cosines, sines = rotary_tables(lm, num_rows)
    return torch.from_numpy(cosines).to(device), torch.from_numpy(sines).to(device)


def rotate(heads: Tensor, tables: Tables) -> Tensor:
    """Rotate [B, heads, S, head_dim]: its first half against its second."""
    cosines, sines = (table.to(heads.dtype) for table in tables)
    first, second = heads.chunk(2, dim=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(turned, dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention: query [B, heads, S, d], key and value [B, kv heads, S, d]."""
    num_rows = query.shape[2]
    if query.device.type != "cpu" or num_rows > _MAX_PLAIN_ROWS:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    batch, num_heads, _, size = query.shape
    groups = num_heads // key.shape[1]
    # Heads that share a key stand one below the other, so that one product serves them all.
    scaled = (query * size**-0.5).reshape(-1, groups * num_rows, size)
    keys, values = key.reshape(-1, num_rows, size), value.reshape(-1, num_rows, size)
    scores = torch.bmm(scaled, keys.transpose(1, 2)).view(-1, groups, num_rows, num_rows)
    future = torch.full((num_rows, num_rows), float("-inf"), dtype=scores.dtype).triu(1)
    shares = torch.softmax(scores + future, dim=-1, dtype=scores.dtype)
    mixed = torch.bmm(shares.view(-1, groups * num_rows, num_rows), values)
    return mixed.view(batch, num_heads, num_rows, size)


def _narrow(values: Tensor) -> Tensor:
    """Under autocast, convert once what several projections read; the stream stays wide."""
    device = values.device.type
    if torch.is_autocast_enabled(device):
        return values.to(torch.get_autocast_dtype(device))
    return values
