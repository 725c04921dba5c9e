# SPDX-License-Identifier: Apache-2.0
"""Samples as numbers: conversion, mixing down, cross-fading, resampling and a gatekeeper."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray
from duologue.runtime.errors import VoiceError

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8
MAX_REFERENCE_S = 120.0

_FULL_SCALE = 32768
# torchaudio.functional.resample's documented defaults: zero crossings on each side of the sinc,
# and the cut-off as a share of the lower Nyquist rate.
_FILTER_WIDTH = 6
_ROLLOFF = 0.99
_BLOCK = 1 << 15


def to_int16(samples: FloatArray) -> npt.NDArray[np.int16]:
    """Float samples as 16-bit integers: scaled by 32768, rounded half to even, clipped.

    >>> to_int16(np.array([0.0, 0.5, 1.0, -1.0, 3.0], dtype=np.float32)).tolist()
    [0, 16384, 32767, -32768, 32767]
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float32) * np.float32(_FULL_SCALE))
    clipped: npt.NDArray[np.int16] = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    return clipped


def to_float32(samples: npt.NDArray[np.int16]) -> FloatArray:
    """16-bit samples as floats in [-1, 1); `to_int16` gives back exactly the same integers.

    >>> to_float32(np.array([-32768, 16384], dtype=np.int16)).tolist()
    [-1.0, 0.5]
    """
    return np.asarray(samples, dtype=np.float32) / np.float32(_FULL_SCALE)


def mono(samples: FloatArray) -> FloatArray:
    """Mean over the channels of [N] or [N, channels] samples.

    >>> mono(np.array([[0.0, 1.0], [0.5, 0.5]], dtype=np.float32)).tolist()
    [0.5, 0.5]
    """
    if samples.ndim == 1:
        return samples.astype(np.float32)
    mixed: FloatArray = samples.mean(axis=1, dtype=np.float32)
    return mixed


def fade_weights(num_samples: int) -> FloatArray:
    """Weights of what comes in during a linear cross-fade, from 0 to 1.

    w and 1 - w sum to exactly one in float32.

    >>> fade_weights(5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return np.linspace(0.0, 1.0, num_samples, dtype=np.float32)


def crossfade(outgoing: FloatArray, incoming: FloatArray) -> FloatArray:
    """Blend two equally long stretches; where they agree, the result is exactly what they are.

    Args:
        outgoing: [N], full at the start.
        incoming: [N], full at the end.
    """
    # Written with the difference, so that equal samples stay bit for bit what they were.
    return outgoing + (incoming - outgoing) * fade_weights(len(outgoing))


def resample_sinc_hann(samples: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    """Change the sample rate by a sinc under a Hann window.

    The algorithm of torchaudio.functional.resample with its default width and roll-off, which
    the reference codec feeds on: another filter gives other codes.

    Args:
        samples: [N] at `from_hz`.
        from_hz: rate that the samples have.
        to_hz: rate that is wanted.

    Returns:
        [ceil(N * to_hz / from_hz)] at `to_hz`.
    """
    divisor = math.gcd(from_hz, to_hz)
    old, new = from_hz // divisor, to_hz // divisor
    if old == new:
        return samples.astype(np.float32)
    kernel, reach = _polyphase_kernel(old, new)
    padded = np.pad(samples.astype(np.float64), reach)
    num_out = -(-len(samples) * new // old)
    out = np.empty(num_out, dtype=np.float32)
    taps = np.arange(2 * reach + 1)
    for start in range(0, num_out, _BLOCK):
        position = np.arange(start, min(start + _BLOCK, num_out))
        centre, phase = position * old // new, position % new
        stretch = np.minimum(centre[:, None] + taps, len(padded) - 1)
        out[position] = np.einsum("nt,nt->n", padded[stretch], kernel[phase])
    return out


def _polyphase_kernel(old: int, new: int) -> tuple[npt.NDArray[np.float64], int]:
    """Filter [new, 2 * reach + 1] for each phase of the output, and its reach in samples.

    Output m lies at input time m * old / new; row m % new weighs the samples around the whole
    sample before it.
    """
    cutoff = min(old, new) * _ROLLOFF
    reach = math.ceil(_FILTER_WIDTH * old / cutoff) + 1
    fraction = (np.arange(new) * old % new) / new
    distance = np.arange(-reach, reach + 1)[None, :] - fraction[:, None]
    angle = np.clip(distance * cutoff / old, -_FILTER_WIDTH, _FILTER_WIDTH)
    hann = np.cos(angle * np.pi / _FILTER_WIDTH / 2) ** 2
    return np.sinc(angle) * hann * (cutoff / old), reach


def validate_reference_audio(
    samples: FloatArray, sample_rate_hz: int, *, max_duration_s: float = MAX_REFERENCE_S
) -> None:
    """Refuse audio that cannot be a voice.

    Args:
        samples: [N] or [N, channels].
        sample_rate_hz: of `samples`.
        max_duration_s: longest clip that is taken.

    Raises:
        VoiceError: no samples, too many channels or seconds, an odd rate, or samples that
            are no numbers; says what was got and what is allowed.
    """
    if samples.ndim not in (1, 2):
        raise VoiceError(f"audio has shape {samples.shape}; allowed: [samples(, channels)]")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if not 1 <= channels <= MAX_CHANNELS:
        raise VoiceError(f"audio has {channels} channels; allowed: 1 to {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise VoiceError(
            f"audio has a sample rate of {sample_rate_hz} Hz;"
            f" allowed: {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        )
    duration_s = len(samples) / sample_rate_hz
    if not 0 < duration_s <= max_duration_s:
        raise VoiceError(
            f"audio lasts {duration_s:.1f} s; allowed: more than 0 s, at most {max_duration_s:g} s"
        )
    if not np.isfinite(samples).all():
        raise VoiceError("audio holds samples that are not a number or infinite")
