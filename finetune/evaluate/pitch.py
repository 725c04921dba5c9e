# SPDX-License-Identifier: Apache-2.0
"""Fundamental frequency by autocorrelation."""

from __future__ import annotations

import numpy as np

from duologue.finetune.evaluate.spectrum import HOP_S, RATE_HZ
from duologue.runtime.audio import resample_sinc_hann
from duologue.runtime.core import FloatArray

_WINDOW_S = 0.05
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 420.0
_VOICED = 0.5
_SILENT_POWER = 1e-5
# A period and its double correlate alike; the shorter one is taken unless it is this much worse.
_SHORTER_IS_ENOUGH = 0.9


def pitch_track(samples: FloatArray, sample_rate_hz: int) -> FloatArray:
    """Pitch over time.

    Args:
        samples: mono [N].
        sample_rate_hz: of `samples`.

    Returns:
        [T] in hertz, one value every `HOP_S` seconds, 0 where nothing is voiced.
    """
    wave = resample_sinc_hann(samples, sample_rate_hz, RATE_HZ)
    size, hop = round(_WINDOW_S * RATE_HZ), round(HOP_S * RATE_HZ)
    if len(wave) < size:
        return np.zeros(0, dtype=np.float32)
    starts = np.arange(0, len(wave) - size + 1, hop)
    frames = wave[starts[:, None] + np.arange(size)]
    frames = frames - frames.mean(axis=1, keepdims=True)
    shares = _autocorrelation(frames)
    shortest, longest = int(RATE_HZ / _HIGHEST_HZ), int(RATE_HZ / _LOWEST_HZ)
    lags = shares[:, shortest : longest + 1]
    best = lags.max(axis=1)
    first_good = _first_peak(lags, best * _SHORTER_IS_ENOUGH)
    voiced = (best > _VOICED) & (np.square(frames).mean(axis=1) > _SILENT_POWER)
    return np.where(voiced, RATE_HZ / (first_good + shortest), 0).astype(np.float32)


def _autocorrelation(frames: FloatArray) -> FloatArray:
    """[T, size] normalised so that lag 0 is one and a pure tone stays near one."""
    size = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * size, axis=1)
    raw = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :size]
    overlap = (size - np.arange(size)) / size
    normalised: FloatArray = raw / np.maximum(raw[:, :1], 1e-12) / overlap
    return normalised


def _first_peak(lags: FloatArray, enough: FloatArray) -> FloatArray:
    """The shortest lag that is a peak and high enough."""
    inner = lags[:, 1:-1]
    is_peak = (inner >= lags[:, :-2]) & (inner >= lags[:, 2:]) & (inner >= enough[:, None])
    found = is_peak.any(axis=1)
    first: FloatArray = np.where(found, is_peak.argmax(axis=1) + 1, lags.argmax(axis=1))
    return first
