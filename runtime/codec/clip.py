# SPDX-License-Identifier: Apache-2.0
"""What every codec engine does around its network: windows of a clip, and checks at the door."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.runtime.config import CodecConfig
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.errors import EngineError, VoiceError

OVERLAP_S = 10.0
"""Look-ahead of a window into the next one, when a clip is longer than one window."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipWindow:
    """A stretch of a clip as the encoder takes it.

    Attributes:
        samples: [N], whole frames, zero from `num_samples` on.
        num_samples: how many of them are audio.
        num_frames: codes to keep, from the first.
    """

    samples: FloatArray
    num_samples: int
    num_frames: int


def hop_frames(config: CodecConfig) -> int:
    """Frames that a full window newly gives: its length less the overlap."""
    return config.max_frames - round(OVERLAP_S * config.frame_rate_hz)


def split_clip(samples: FloatArray, config: CodecConfig) -> list[ClipWindow]:
    """Cut a clip into the encoder's windows (30 s at every 20 s, as the reference does).

    The reference fills every window with zeros up to 30 s. One frame of zeros gives the same
    codes, because positions beyond the audio are masked, and is cheaper.

    Args:
        samples: [N] mono at `config.input_rate_hz`.
        config: of the codec.

    Returns:
        Windows whose kept codes, joined, are the clip's N // input_samples_per_frame codes.

    Raises:
        VoiceError: not one-dimensional, or samples that are no finite numbers.
    """
    if samples.ndim != 1:
        raise VoiceError(f"audio to encode has shape {samples.shape}; allowed: mono, [samples]")
    if not np.isfinite(samples).all():
        raise VoiceError("audio to encode holds samples that are not a number or infinite")
    frame = config.input_samples_per_frame
    hop, limit = hop_frames(config), config.max_frames * frame
    windows = []
    for start in range(0, len(samples), hop * frame):
        piece = samples[start : start + limit]
        num_frames = min(hop, len(piece) // frame)
        if num_frames > 0:
            padded = np.zeros(min(limit, (-(-len(piece) // frame) + 1) * frame), dtype=np.float32)
            padded[: len(piece)] = piece
            windows.append(ClipWindow(padded, len(piece), num_frames))
    return windows


def join_codes(codes: list[IntArray], config: CodecConfig) -> IntArray:
    """Codes [K, T_i] of the windows, one after the other; [K, 0] where there are none."""
    return np.concatenate([np.zeros((config.num_codebooks, 0), np.int64), *codes], axis=1)


def check_codes(codes: IntArray, config: CodecConfig) -> None:
    """Refuse what a decoder cannot take.

    Raises:
        EngineError: `codes` are not [B, K, L] of the codec's size and range.
    """
    fits = codes.ndim == 3 and codes.shape[1] == config.num_codebooks
    if not fits or not 1 <= codes.shape[2] <= config.max_frames or len(codes) == 0:
        raise EngineError(
            f"codes have shape {codes.shape}; allowed: [B, {config.num_codebooks}, L] with L"
            f" from 1 to {config.max_frames}"
        )
    if codes.min() < 0 or codes.max() >= config.codebook_size:
        raise EngineError(
            f"codes lie in [{codes.min()}, {codes.max()}]; allowed: 0 to {config.codebook_size - 1}"
        )


def check_samples(samples: FloatArray) -> FloatArray:
    """Pass decoded samples on.

    Raises:
        EngineError: the decoder made something that is no finite number.
    """
    if not np.isfinite(samples).all():
        raise EngineError("the codec made samples that are not a number or infinite")
    return samples
