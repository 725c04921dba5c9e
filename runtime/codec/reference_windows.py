# SPDX-License-Identifier: Apache-2.0
"""Whole dialogues in the reference's own windows: schedules over any `Codec`.

They are the yardstick for the streaming windows and serve whoever wants the reference's audio
(OpenMOSS/MOSS-TTSD v0.7, XY_Tokenizer/xy_tokenizer/model.py and generation_utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.runtime.audio import crossfade
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.clip import hop_frames
from duologue.runtime.config import CodecConfig
from duologue.runtime.core import FloatArray, IntArray

REFERENCE_S = 20.0
WINDOW_S = 10.0
STRIDE_S = 6.8
LEFT_S = 1.6
FADE_S = 0.1


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of the prompt-augmented decode, in frames of the dialogue.

    Attributes:
        start, stop: frames that are given to the decoder, behind the reference.
        keep_from, keep_to: frames of the dialogue that are kept.
        has_margin: a little more is kept on the right, for the cross-fade.
    """

    start: int
    stop: int
    keep_from: int
    keep_to: int
    has_margin: bool


def decode_windowed(codec: Codec, codes: IntArray) -> FloatArray:
    """Decode a dialogue of any length in the codec's longest windows.

    A window looks ahead but not back, and joins the next one without a fade. The reference
    decodes all windows as one padded batch, which disturbs the last 20 ms or more of a short
    one; here each has its own length.

    Args:
        codec: any engine.
        codes: [K, T].

    Returns:
        [T * samples_per_frame].
    """
    config = codec.config
    hop, width = hop_frames(config), config.samples_per_frame
    pieces = [np.zeros(0, dtype=np.float32)]
    for start in range(0, codes.shape[1], hop):
        window = codes[:, start : start + config.max_frames]
        pieces.append(codec.decode(window[None])[0, : hop * width])
    return np.concatenate(pieces)


def reference_codes(codec: Codec, samples: FloatArray) -> IntArray:
    """Codes of a voice as the prompt-augmented decode wants them.

    Args:
        codec: any engine.
        samples: [N] mono at the codec's input rate; cut or filled with zeros to 20 s.

    Returns:
        [K, 20 s of frames].
    """
    exact = np.zeros(round(REFERENCE_S * codec.config.input_rate_hz), dtype=np.float32)
    exact[: len(samples)] = samples[: len(exact)]
    return codec.encode(exact)


def plan_segments(num_frames: int, config: CodecConfig, *, loses_audio: bool) -> list[Segment]:
    """Windows of the prompt-augmented decode.

    Args:
        num_frames: length of the dialogue.
        config: of the codec.
        loses_audio: do as the reference does, also where a window that already reached the end
            is followed by another: that seam has no margin, and the cross-fade eats up to
            0.1 s. False keeps everything of a window that reaches the end, and stops there.
    """
    width, stride, left = (_frames(s, config) for s in (WINDOW_S, STRIDE_S, LEFT_S))
    segments = []
    for start in range(0, num_frames, stride):
        stop = min(start + width, num_frames)
        reaches_end = stop == num_frames
        keep_from = 0 if start == 0 else start + left
        keep_to = min(start + left + stride, stop)
        if reaches_end and not loses_audio:
            keep_to = stop
        if keep_to > keep_from:
            segments.append(Segment(start, stop, keep_from, keep_to, not reaches_end))
        if reaches_end and not loses_audio:
            break
    return segments


def decode_with_reference(
    codec: Codec, codes: IntArray, reference: IntArray, *, loses_audio: bool = False
) -> FloatArray:
    """Decode a dialogue with the voice in front of every window.

    Args:
        codec: any engine.
        codes: [K, T].
        reference: from `reference_codes`.
        loses_audio: see `plan_segments`.

    Returns:
        [T * samples_per_frame], or up to 0.1 s less with `loses_audio`.
    """
    config = codec.config
    width, fade = config.samples_per_frame, round(FADE_S * config.sample_rate_hz)
    audio = np.zeros(0, dtype=np.float32)
    for segment in plan_segments(codes.shape[1], config, loses_audio=loses_audio):
        window = np.concatenate([reference, codes[:, segment.start : segment.stop]], axis=1)
        decoded = codec.decode(window[None])[0, reference.shape[1] * width :]
        begin = (segment.keep_from - segment.start) * width
        end = (segment.keep_to - segment.start) * width + fade * segment.has_margin
        audio = _join(audio, decoded[begin:end], fade)
    return audio


def _frames(seconds: float, config: CodecConfig) -> int:
    return round(seconds * config.frame_rate_hz)


def _join(before: FloatArray, after: FloatArray, fade: int) -> FloatArray:
    """Overlap by `fade` samples, or by fewer where one side is shorter."""
    fade = min(fade, len(before), len(after))
    keep = len(before) - fade
    blended = crossfade(before[keep:], after[:fade])
    return np.concatenate([before[:keep], blended, after[fade:]])
