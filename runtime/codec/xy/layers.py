# SPDX-License-Identifier: Apache-2.0
"""Transformer stacks of the XY-Tokenizer. Letters: B rows, T positions, C channels.

Module names are those of the published checkpoints, so that a state dict loads strictly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.parameters import StackShape


class SelfAttention(nn.Module):
    """Attention over all positions, before and after; keys have no bias."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x: [B, T, C].
            bias: [B, 1, 1, T], added to the scores of each key, or None.

        Returns:
            [B, T, C].
        """
        B, T, C = x.shape
        heads = (B, T, self.num_heads, C // self.num_heads)
        q = self.q_proj(x).view(heads).transpose(1, 2)
        k = self.k_proj(x).view(heads).transpose(1, 2)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.out_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


class Layer(nn.Module):
    """A pre-norm Transformer layer."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.self_attn = SelfAttention(shape.d_model, shape.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.d_model)
        self.fc1 = nn.Linear(shape.d_model, shape.ffn_dim)
        self.fc2 = nn.Linear(shape.ffn_dim, shape.d_model)
        self.final_layer_norm = nn.LayerNorm(shape.d_model)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[B, T, C] -> [B, T, C]; `bias` as in `SelfAttention`."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), bias)
        x = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        if x.dtype == torch.float16:
            # The reference does so where a half-precision layer overflowed.
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x


class Stack(nn.Module):
    """Positions, layers and a closing norm: what encoders, adapters and decoder share."""

    positional_embedding: Tensor

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        table = torch.zeros(shape.max_positions, shape.d_model)
        self.register_buffer("positional_embedding", table)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.layer_norm = nn.LayerNorm(shape.d_model)

    def run_layers(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Layers over [B, T, C]; positions at or beyond `lengths` [B] are neither seen nor kept."""
        x = x + self.positional_embedding[: x.shape[1]]
        if lengths is None:
            return self._layers(x, None)
        is_valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        bias = torch.zeros_like(is_valid, dtype=x.dtype)
        bias = bias.masked_fill(~is_valid, torch.finfo(x.dtype).min)[:, None, None, :]
        return self._layers(x, bias) * is_valid[:, :, None]

    def _layers(self, x: Tensor, bias: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, bias)
        out: Tensor = self.layer_norm(x)
        return out


class AudioEncoder(Stack):
    """Mel frames to positions at half their rate."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__(shape)
        self.conv1 = nn.Conv1d(shape.input_dim, shape.d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.d_model, shape.d_model, 3, stride=2, padding=1)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Encode.

        Args:
            mel: [B, num_mels, 2 * T].
            lengths: [B], valid positions out of T.

        Returns:
            [B, T, d_model], zero at and beyond `lengths`.
        """
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        return self.run_layers(x.transpose(1, 2), lengths)


class Adapter(Stack):
    """A stack with projections where the channels around it differ."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__(shape)
        width = shape.d_model
        self.proj = nn.Linear(shape.input_dim, width) if shape.input_dim != width else None
        self.out_proj = nn.Linear(width, shape.output_dim) if shape.output_dim != width else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, input_dim] -> [B, T, output_dim]; `lengths` [B] valid positions, None for all."""
        x = x if self.proj is None else self.proj(x)
        x = self.run_layers(x, lengths)
        return x if self.out_proj is None else self.out_proj(x)


class AudioDecoder(Stack):
    """Positions to mel frames at twice their rate."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__(shape)
        self.deconv1 = nn.ConvTranspose1d(shape.d_model, shape.d_model, 3, stride=2)
        self.deconv2 = nn.ConvTranspose1d(shape.d_model, shape.output_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, d_model] -> [B, num_mels, 2 * T]."""
        num_frames = 2 * x.shape[1]
        x = F.gelu(self.deconv1(self.run_layers(x, None).transpose(1, 2)))
        return F.gelu(self.deconv2(x))[..., :num_frames]
