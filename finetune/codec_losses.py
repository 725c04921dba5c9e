# SPDX-License-Identifier: Apache-2.0
"""How far decoded audio is from what was encoded: spectra at several resolutions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.mel import mel_filters

# Window lengths in samples, and mel bands for each. Shorter windows would show the single pulses
# of a low voice, whose places the codes do not tell; a codec that cannot hit them whispers.
_RESOLUTIONS = ((800, 60), (1280, 80), (2048, 128))
# In amplitude of a sine; what is softer (-80 dB of full scale) nobody hears.
_FLOOR = 1e-4
# Harmonics up to here are read, through a window that tells those of 70 Hz apart.
_RIPPLE_HZ, _RIPPLE_WINDOW_S, _SMOOTHED_HZ = 1500.0, 0.085, 250.0
_RIPPLE_HOP_S = 0.02
_HINTS_PER_FRAME = 2


class Spectra(nn.Module):
    """Magnitudes of one resolution, linear and by mel band."""

    window: Tensor
    filters: Tensor

    def __init__(self, size: int, num_mels: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.size = size
        window = torch.hann_window(size)
        filters = torch.from_numpy(mel_filters(num_mels, size, sample_rate_hz))
        # So that a sine of amplitude 1 gives a peak of 1, and white noise equal bands.
        self.register_buffer("window", window * (2 / window.sum()))
        self.register_buffer("filters", filters / filters.sum(1, keepdim=True).clamp(min=1e-8))

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N] -> magnitudes [B, size / 2 + 1, frames] and [B, num_mels, frames]."""
        spectrum = torch.stft(
            samples, self.size, self.size // 4, window=self.window, return_complex=True
        )
        magnitude = (spectrum.real.square() + spectrum.imag.square() + _FLOOR**2).sqrt()
        return magnitude, self.filters @ magnitude


class Ripples(nn.Module):
    """The harmonics of a voice: its log spectrum below 1.5 kHz less the smooth envelope."""

    window: Tensor

    def __init__(self, sample_rate_hz: int, hop: int) -> None:
        super().__init__()
        self.size = 2 ** round(math.log2(_RIPPLE_WINDOW_S * sample_rate_hz))
        self.hop = hop
        self.num_bins = round(_RIPPLE_HZ * self.size / sample_rate_hz)
        self.spread = 2 * round(_SMOOTHED_HZ * self.size / sample_rate_hz / 2) + 1
        self.register_buffer("window", torch.hann_window(self.size))

    def forward(self, samples: Tensor) -> Tensor:
        """[B, N] -> [B, frames, num_bins]."""
        spectrum = torch.stft(
            samples, self.size, self.hop, window=self.window, return_complex=True
        )[:, : self.num_bins].transpose(1, 2)
        power = spectrum.real.square() + spectrum.imag.square()
        log = (power / self.size**2 + _FLOOR**2).log() / 2
        smooth = F.avg_pool1d(log, self.spread, 1, self.spread // 2, count_include_pad=False)
        ripples: Tensor = log - smooth
        return ripples


class ReconstructionLoss(nn.Module):
    """Differences of log-mel, log-magnitude and magnitude at all resolutions, and of harmonics."""

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(
            Spectra(size, num_mels, sample_rate_hz) for size, num_mels in _RESOLUTIONS
        )
        self.ripples = Ripples(sample_rate_hz, round(_RIPPLE_HOP_S * sample_rate_hz))

    def forward(self, decoded: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Compare [B, N] with [B, N].

        Returns:
            "mel": mean difference of log-mel magnitudes, "stft": of log magnitudes (both in
            nepers), "convergence": difference of magnitudes relative to those wanted,
            "harmonics": mean difference of `Ripples`.
        """
        terms: dict[str, list[Tensor]] = {"mel": [], "stft": [], "convergence": []}
        for spectra in self.spectra:
            magnitude, mel = spectra(decoded)
            with torch.no_grad():
                wanted_magnitude, wanted_mel = spectra(wanted)
            terms["mel"].append(F.l1_loss(mel.log(), wanted_mel.log()))
            terms["stft"].append(F.l1_loss(magnitude.log(), wanted_magnitude.log()))
            error = (magnitude - wanted_magnitude).square().sum(dim=(1, 2)).sqrt()
            scale = wanted_magnitude.square().sum(dim=(1, 2)).sqrt()
            terms["convergence"].append((error / (scale + _FLOOR * 100)).mean())
        means = {name: torch.stack(values).mean() for name, values in terms.items()}
        with torch.no_grad():
            wanted_ripples = self.ripples(wanted)
        means["harmonics"] = F.l1_loss(self.ripples(decoded), wanted_ripples)
        return means


class PitchHint(nn.Module):
    """Reads the harmonics of the voice out of the quantized latents; used in training only.

    A vocoder learns late to put the harmonics of a low voice where they belong. Until then
    nothing else tells the encoder that pitch is worth its codes.
    """

    def __init__(self, latent_dim: int, sample_rate_hz: int, samples_per_frame: int) -> None:
        super().__init__()
        self.ripples = Ripples(sample_rate_hz, samples_per_frame // _HINTS_PER_FRAME)
        self.head = nn.Linear(latent_dim, _HINTS_PER_FRAME * self.ripples.num_bins)

    def forward(self, latents: Tensor, wanted: Tensor) -> Tensor:
        """Mean difference between ripples that [B, T, latent_dim] tell and those of [B, N']."""
        told = self.head(latents.float()).view(len(latents), -1, self.ripples.num_bins)
        with torch.no_grad():
            found = self.ripples(wanted)[:, : told.shape[1]]
        return F.l1_loss(told, found)
