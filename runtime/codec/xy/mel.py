# SPDX-License-Identifier: Apache-2.0
"""Slaney mel filters, as Whisper's feature extractor uses them (transformers, audio_utils.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray

# The Slaney scale is linear below 1 kHz and logarithmic above (Auditory Toolbox).
_HZ_PER_MEL = 200.0 / 3.0
_LINEAR_END_HZ = 1000.0
_LINEAR_END_MEL = _LINEAR_END_HZ / _HZ_PER_MEL
_MELS_PER_LOG_HZ = 27.0 / np.log(6.4)

FLOOR = 1e-10
"""Power below which the logarithm is not taken."""
RANGE = 8.0
"""Decades below the loudest value of a clip that are kept."""


def mel_filters(num_mels: int, n_fft: int, sample_rate_hz: int) -> FloatArray:
    """Triangular filters of equal area from 0 Hz to half the sample rate.

    Returns:
        [num_mels, n_fft // 2 + 1]: power spectrum -> mel power.
    """
    nyquist_hz = sample_rate_hz / 2
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(nyquist_hz), num_mels + 2))
    bins_hz = np.linspace(0.0, nyquist_hz, n_fft // 2 + 1)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: FloatArray = (triangles * (2.0 / (high - low))).astype(np.float32)
    return filters


def _hz_to_mel(hz: float) -> float:
    if hz < _LINEAR_END_HZ:
        return hz / _HZ_PER_MEL
    return float(_LINEAR_END_MEL + np.log(hz / _LINEAR_END_HZ) * _MELS_PER_LOG_HZ)


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponent = (mels - _LINEAR_END_MEL) / _MELS_PER_LOG_HZ
    curved = _LINEAR_END_HZ * np.exp(np.maximum(exponent, 0.0))
    return np.where(mels < _LINEAR_END_MEL, mels * _HZ_PER_MEL, curved)
