# SPDX-License-Identifier: Apache-2.0
"""Residual vector quantizer and the convolutions around it. Letters: K codebooks, V codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.parameters import XyParameters


class DownConv(nn.Module):
    """Joins `factor` positions into one frame: gated convolution beside a plain reshape."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.gate_proj = nn.Conv1d(dim, dim * factor, factor, stride=factor, bias=False)
        self.up_proj = nn.Conv1d(dim, dim * factor, factor, stride=factor, bias=False)
        self.down_proj = nn.Linear(dim * factor, dim * factor, bias=False)
        self.layer_norm = nn.LayerNorm(dim * factor)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T / factor, C * factor]."""
        B, T, C = x.shape
        channels_first = x.transpose(1, 2)
        gated = F.silu(self.gate_proj(channels_first)) * self.up_proj(channels_first)
        joined = x.reshape(B, T // self.factor, C * self.factor)
        out: Tensor = self.layer_norm(self.down_proj(gated.transpose(1, 2)) + joined)
        return out


class UpConv(nn.Module):
    """Splits one frame into `factor` positions."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose1d(dim * factor, dim, factor, stride=factor, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C * factor] -> [B, T * factor, C]."""
        out: Tensor = self.up_conv(x.transpose(1, 2)).transpose(1, 2)
        return out


class Codebook(nn.Module):
    """One level: `codebook` [V, rvq_dim]."""

    codebook: Tensor

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(codebook_size, dim))


class ResidualQuantizer(nn.Module):
    """Each level names the nearest row of its codebook to what the levels before left over."""

    def __init__(self, parameters: XyParameters) -> None:
        super().__init__()
        width, dim = parameters.latent_dim, parameters.rvq_dim
        self.input_proj = nn.Conv1d(width, dim, 1)
        self.output_proj = nn.Conv1d(dim, width, 1)
        self.quantizers = nn.ModuleList(
            Codebook(parameters.codebook_size, dim) for _ in range(parameters.num_codebooks)
        )

    def encode(self, x: Tensor) -> Tensor:
        """[B, T, latent_dim] -> codes [B, K, T]. Distances are taken in float32."""
        residual = self.input_proj(x.transpose(1, 2)).transpose(1, 2).float()
        codes = []
        for level in self._codebooks():
            table = level.float()
            # |r - c|^2 without |r|^2, which is the same for all c.
            distances = table.pow(2).sum(1) - 2 * (residual @ table.T)
            codes.append(distances.argmin(dim=-1))
            residual = residual - table[codes[-1]]
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, T] -> [B, T, latent_dim]."""
        rows = [table[codes[:, k]] for k, table in enumerate(self._codebooks())]
        total = torch.stack(rows).sum(0)
        out: Tensor = self.output_proj(total.transpose(1, 2)).transpose(1, 2)
        return out

    def _codebooks(self) -> list[Tensor]:
        return [level.codebook for level in self.quantizers if isinstance(level, Codebook)]
