# SPDX-License-Identifier: Apache-2.0
"""The vocoder: ConvNeXt blocks and an inverse short-time Fourier transform (Vocos)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.parameters import VocosShape

NORM_EPS = 1e-6
MAX_MAGNITUDE = 100.0


class ConvNextBlock(nn.Module):
    """A depth-wise convolution and a channel mixer, scaled and added to the input."""

    def __init__(self, dim: int, intermediate_dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        out: Tensor = x + y.transpose(1, 2)
        return out


class Backbone(nn.Module):
    """Mel frames to features of the same rate."""

    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.embed = nn.Conv1d(shape.input_channels, shape.dim, 7, padding=3)
        self.norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.convnext = nn.ModuleList(
            ConvNextBlock(shape.dim, shape.intermediate_dim) for _ in range(shape.num_layers)
        )
        self.final_layer_norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, num_mels, T] -> [B, T, dim]."""
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        out: Tensor = self.final_layer_norm(x.transpose(1, 2))
        return out


class InverseStft(nn.Module):
    """Overlap-add of inverse transforms, trimmed to exactly hop samples per frame."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        # "cpu": see `MelSpectrogram`.
        self.register_buffer("window", torch.hann_window(n_fft, device="cpu"))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Complex [B, n_fft / 2 + 1, T] -> samples [B, T * hop]."""
        num_frames = spectrum.shape[-1]
        frames = torch.fft.irfft(spectrum, self.n_fft, dim=1) * self.window[:, None]
        envelope = self.window.square()[None, :, None].expand(1, -1, num_frames)
        return self._overlap_add(frames) / self._overlap_add(envelope)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """[B, n_fft, T] -> [B, T * hop]: half of what overhangs is cut on each side."""
        total = (frames.shape[-1] - 1) * self.hop + self.n_fft
        summed = F.fold(frames, (1, total), (1, self.n_fft), stride=(1, self.hop))
        margin = (self.n_fft - self.hop) // 2
        return summed[:, 0, 0, margin : total - margin]


class InverseStftHead(nn.Module):
    """Features to magnitude and phase, then to samples."""

    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.out = nn.Linear(shape.dim, shape.n_fft + 2)
        self.istft = InverseStft(shape.n_fft, shape.hop)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T * hop], always in float32."""
        log_magnitude, phase = self.out(x).transpose(1, 2).float().chunk(2, dim=1)
        magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
        samples: Tensor = self.istft(torch.polar(magnitude, phase))
        return samples


class Vocos(nn.Module):
    """Mel frames to samples."""

    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.backbone = Backbone(shape)
        self.head = InverseStftHead(shape)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, num_mels, T] -> [B, T * hop]."""
        samples: Tensor = self.head(self.backbone(mel))
        return samples
