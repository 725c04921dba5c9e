# SPDX-License-Identifier: Apache-2.0
"""How far decoded audio is from what was encoded: spectra at several resolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.mel import mel_filters

# Window lengths in samples, and mel bands for each.
_RESOLUTIONS = ((384, 32), (1024, 80), (2048, 128))
# In amplitude of a sine; what is softer (-80 dB of full scale) nobody hears.
_FLOOR = 1e-4


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


class ReconstructionLoss(nn.Module):
    """Mean over resolutions of log-mel, log-magnitude and magnitude differences."""

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(
            Spectra(size, num_mels, sample_rate_hz) for size, num_mels in _RESOLUTIONS
        )

    def forward(self, decoded: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Compare [B, N] with [B, N].

        Returns:
            "mel": mean difference of log-mel magnitudes, "stft": of log magnitudes (both in
            nepers), "convergence": difference of magnitudes relative to those wanted.
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
        return {name: torch.stack(values).mean() for name, values in terms.items()}
