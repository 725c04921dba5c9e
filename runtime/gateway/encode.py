# SPDX-License-Identifier: Apache-2.0
"""Samples to bytes of a file format, piece by piece while they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

import av
import numpy as np
from av.audio.stream import AudioStream

from duologue.client.types import Int16Array
from duologue.client.wav import wav_header

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

MEDIA_TYPES: dict[AudioFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


class Encoder(Protocol):
    """Turns samples into bytes; what comes out joined is one file."""

    def encode(self, samples: Int16Array) -> bytes:
        """The bytes that are complete with these samples [N]; may be none."""
        ...

    def finish(self) -> bytes:
        """The bytes that are left. Nothing may follow."""
        ...


class PcmEncoder:
    """Bare samples, 16 bits, little-endian."""

    def encode(self, samples: Int16Array) -> bytes:
        """See `Encoder`."""
        return samples.astype("<i2", copy=False).tobytes()

    def finish(self) -> bytes:
        """See `Encoder`."""
        return b""


class WavEncoder(PcmEncoder):
    """The same behind a header that leaves the length open, as nobody knows it yet."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._header = wav_header(sample_rate_hz, None)

    def encode(self, samples: Int16Array) -> bytes:
        """See `Encoder`."""
        header, self._header = self._header, b""
        return header + super().encode(samples)

    def finish(self) -> bytes:
        """See `Encoder`."""
        return self._header


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How FFmpeg writes a format.

    Attributes:
        container, codec: by FFmpeg's names.
        bit_rate: bits per second; None where the codec is lossless.
        options: of the container, so that it writes at once and never goes back.
    """

    container: str
    codec: str
    bit_rate: int | None
    options: dict[str, str] = field(default_factory=dict)


_RECIPES: dict[str, _Recipe] = {
    "mp3": _Recipe("mp3", "libmp3lame", 96_000, {"write_xing": "0", "id3v2_version": "0"}),
    "opus": _Recipe("ogg", "libopus", 48_000, {"page_duration": "80000"}),
    "aac": _Recipe("adts", "aac", 96_000),
    "flac": _Recipe("flac", "flac", None),
}
_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)


class _Outlet:
    """Where FFmpeg writes; without `seek`, so that it does not try."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class AvEncoder:
    """A compressed format, by FFmpeg."""

    def __init__(self, audio_format: str, sample_rate_hz: int) -> None:
        recipe = _RECIPES[audio_format]
        self._outlet = _Outlet()
        self._container = av.open(
            self._outlet, "w", format=recipe.container, options=dict(recipe.options)
        )
        stream = self._container.add_stream(recipe.codec, rate=sample_rate_hz)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = "mono"
        if recipe.bit_rate is not None:
            stream.codec_context.bit_rate = recipe.bit_rate
        self._stream = stream
        self._rate_hz = sample_rate_hz
        self._num_samples = 0

    def encode(self, samples: Int16Array) -> bytes:
        """See `Encoder`."""
        if len(samples) > 0:
            frame = as_frame(samples, self._rate_hz, self._num_samples)
            self._num_samples += len(samples)
            self._container.mux(self._stream.encode(frame))
        return self._outlet.take()

    def finish(self) -> bytes:
        """See `Encoder`."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._outlet.take()


def as_frame(samples: Int16Array, sample_rate_hz: int, position: int) -> av.AudioFrame:
    """Samples [N] in FFmpeg's hands; `position` is that of the first one in its stream."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples)[None, :], format="s16", layout="mono"
    )
    frame.sample_rate = sample_rate_hz
    frame.time_base = Fraction(1, sample_rate_hz)
    frame.pts = position
    return frame


def encoder_rate_hz(audio_format: AudioFormat, sample_rate_hz: int) -> int:
    """The rate at which a format is written: the one that is there, or the nearest it takes.

    >>> encoder_rate_hz("mp3", 24_000), encoder_rate_hz("opus", 32_000)
    (24000, 48000)
    """
    if audio_format != "opus" or sample_rate_hz in _OPUS_RATES_HZ:
        return sample_rate_hz
    return min(rate for rate in (*_OPUS_RATES_HZ, 10**9) if rate >= min(sample_rate_hz, 48_000))


def make_encoder(audio_format: AudioFormat, sample_rate_hz: int) -> Encoder:
    """An encoder for one stream.

    Args:
        audio_format: one of `MEDIA_TYPES`.
        sample_rate_hz: of the samples, as `encoder_rate_hz` gives it.
    """
    if audio_format == "pcm":
        return PcmEncoder()
    if audio_format == "wav":
        return WavEncoder(sample_rate_hz)
    return AvEncoder(audio_format, sample_rate_hz)
