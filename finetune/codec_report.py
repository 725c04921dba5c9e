# SPDX-License-Identifier: Apache-2.0
"""How good a codec is: held-out speech against itself after the codec, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from duologue.finetune.codec_audio import fit
from duologue.finetune.codec_losses import ReconstructionLoss
from duologue.finetune.evaluate.spectrum import log_mel
from duologue.finetune.evaluate.words import identify
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.window import Stitcher, WindowPlan, default_windows
from duologue.runtime.config import WindowConfig
from duologue.runtime.core import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class CodecReport:
    """Means over all clips.

    Attributes:
        whole_mel: difference of log-mel magnitudes in nepers, decoded in one window.
        streamed_mel: the same, decoded in the windows of a stream.
        whole_stft, streamed_stft: of log magnitudes.
        streamed_against_whole_mel: between the two decodings.
        share_identified: how many clips, decoded in a stream, are closest to themselves.
        used_codes: share of each codebook's codes that the clips need.
    """

    whole_mel: float
    streamed_mel: float
    whole_stft: float
    streamed_stft: float
    streamed_against_whole_mel: float
    share_identified: float
    used_codes: tuple[float, ...]


def decode_streamed(codec: Codec, codes: IntArray, windows: WindowConfig) -> FloatArray:
    """Decode [K, T] as a stream does; returns [T * samples_per_frame]."""
    plan = WindowPlan(windows)
    stitcher = Stitcher(windows, codec.config.samples_per_frame)
    chunks = []
    while (window := plan.next(codes, is_complete=True)) is not None:
        chunks.append(stitcher.push(window, codec.decode(window.codes[None])[0]))
    return np.concatenate(chunks)


def report_codec(
    codec: Codec, files: Sequence[Path], windows: WindowConfig | None = None
) -> CodecReport:
    """Encode and decode audio files and compare.

    Args:
        codec: with at most `codec.config.max_frames` frames of each file used.
        files: held-out audio.
        windows: of the stream; None takes the usual ladder.
    """
    config = codec.config
    ladder = windows or default_windows(config)
    loss = ReconstructionLoss(config.sample_rate_hz)
    rows: list[tuple[float, ...]] = []
    originals, streams, all_codes = [], [], []
    for path in files:
        original, codes = _encode(codec, path)
        whole, streamed = codec.decode(codes[None])[0], decode_streamed(codec, codes, ladder)
        apart = _compare(loss, streamed, whole)[0]
        rows.append((*_compare(loss, whole, original), *_compare(loss, streamed, original), apart))
        originals.append(log_mel(original, config.sample_rate_hz))
        streams.append(log_mel(streamed, config.sample_rate_hz))
        all_codes.append(codes)
    whole_mel, whole_stft, streamed_mel, streamed_stft, apart = np.mean(rows, axis=0).tolist()
    used = [len(np.unique(level)) / config.codebook_size for level in np.hstack(all_codes)]
    return CodecReport(
        whole_mel=whole_mel,
        streamed_mel=streamed_mel,
        whole_stft=whole_stft,
        streamed_stft=streamed_stft,
        streamed_against_whole_mel=apart,
        share_identified=identify(streams, originals).share_right,
        used_codes=tuple(used),
    )


def _encode(codec: Codec, path: Path) -> tuple[FloatArray, IntArray]:
    """The start of a file at the output rate, whole frames, and its codes."""
    config = codec.config
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    codes = codec.encode(soxr.resample(mono, rate_hz, config.input_rate_hz))
    codes = codes[:, : config.max_frames]
    original = soxr.resample(mono, rate_hz, config.sample_rate_hz)
    return fit(original, codes.shape[1] * config.samples_per_frame), codes


def _compare(
    loss: ReconstructionLoss, decoded: FloatArray, wanted: FloatArray
) -> tuple[float, float]:
    with torch.inference_mode():
        terms = loss(torch.from_numpy(decoded)[None], torch.from_numpy(wanted)[None])
    return float(terms["mel"]), float(terms["stft"])
