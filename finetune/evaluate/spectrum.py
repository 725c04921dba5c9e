# SPDX-License-Identifier: Apache-2.0
"""Log-mel spectra for comparing speech."""

from __future__ import annotations

import numpy as np

from duologue.runtime.audio import resample_sinc_hann
from duologue.runtime.core import FloatArray

RATE_HZ = 16_000
HOP_S = 0.02
NUM_BANDS = 40
_WINDOW = 640
_HOP = round(HOP_S * RATE_HZ)
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7600.0
# Of full scale; what is softer does not count, so that digital silence is no outlier.
_FLOOR = 1e-5


def log_mel(samples: FloatArray, sample_rate_hz: int) -> FloatArray:
    """The log-mel spectrum of speech.

    Args:
        samples: mono [N].
        sample_rate_hz: of `samples`.

    Returns:
        [T, NUM_BANDS], one row every `HOP_S` seconds, at least one.
    """
    wave = resample_sinc_hann(samples, sample_rate_hz, RATE_HZ)
    wave = np.pad(wave, (_WINDOW // 2, _WINDOW))
    num_rows = 1 + (len(wave) - _WINDOW) // _HOP
    places = np.arange(num_rows)[:, None] * _HOP + np.arange(_WINDOW)
    spectrum = np.abs(np.fft.rfft(wave[places] * np.hanning(_WINDOW), axis=1)) / _WINDOW
    mel: FloatArray = np.log(np.maximum(spectrum @ _mel_filters(), _FLOOR)).astype(np.float32)
    return mel


def without_mean(mel: FloatArray) -> FloatArray:
    """The spectrum [T, bands] less its mean over time, which is most of the voice."""
    centred: FloatArray = mel - mel.mean(axis=0, keepdims=True)
    return centred


def _mel_filters() -> FloatArray:
    """Triangles [bins, bands], evenly spread over the mel scale."""

    def to_mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    mels = np.linspace(to_mel(_LOWEST_HZ), to_mel(_HIGHEST_HZ), NUM_BANDS + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(_WINDOW, 1 / RATE_HZ)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    triangles: FloatArray = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return triangles
