# SPDX-License-Identifier: Apache-2.0
"""The process that decodes one upload: orders in argv, the file on stdin, samples on stdout.

The answer is one line of JSON, {"sample_rate_hz", "duration_s"} or {"error"}, and behind it the
samples as mono float32.
"""

from __future__ import annotations

import importlib
import io
import json
import resource
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from duologue.runtime.audio import MAX_RATE_HZ, MIN_RATE_HZ, mono, resample_sinc_hann
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import VoiceError

# Peak below which nothing can be heard: -60 dB of full scale.
_SILENCE = 1e-3
_STREAMED_SIZES = (0, 0xFFFFFFFF)
_SOUNDFILE_FORMATS = ("wav", "flac", "ogg")
_OPEN_FILES = 16


def main() -> None:
    """Do as ordered; every failure becomes a line that says why."""
    orders = json.loads(sys.argv[1])
    # Before the limits: loading the library takes memory, too.
    importlib.import_module("soundfile" if orders["format"] in _SOUNDFILE_FORMATS else "av")
    _limit(orders)
    out = sys.stdout.buffer
    try:
        samples, rate_hz, duration_s = _decode(sys.stdin.buffer.read(), orders)
    except VoiceError as error:
        out.write(json.dumps({"error": str(error)}).encode())
    except MemoryError:
        out.write(json.dumps({"error": "decoding it takes too much memory"}).encode())
    else:
        head = {"sample_rate_hz": rate_hz, "duration_s": duration_s}
        out.write(json.dumps(head).encode() + b"\n" + samples.astype("<f4").tobytes())


def _limit(orders: dict[str, Any]) -> None:
    """Take away what decoding does not need."""
    for kind, limit in (
        (resource.RLIMIT_AS, orders["max_memory_bytes"]),
        (resource.RLIMIT_CPU, orders["max_cpu_s"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(kind, (limit, limit))


def _decode(data: bytes, orders: dict[str, Any]) -> tuple[FloatArray, int, float]:
    """Mono samples, at most `max_s` of them; their rate; the length of the whole file."""
    if orders["format"] in _SOUNDFILE_FORMATS:
        samples, rate_hz, duration_s = _by_soundfile(data, orders)
    else:
        samples, rate_hz, duration_s = _by_av(data, orders)
    if not np.isfinite(samples).all():
        raise VoiceError("it holds samples that are not a number or infinite")
    samples = mono(samples)
    if duration_s < orders["min_s"]:
        raise VoiceError(f"it lasts {duration_s:.2f} s; allowed: at least {orders['min_s']:g} s")
    if np.abs(samples).max() < _SILENCE:
        raise VoiceError("it is silent")
    if rate_hz > orders["max_rate_hz"]:
        samples = resample_sinc_hann(samples, rate_hz, orders["max_rate_hz"])
        rate_hz = orders["max_rate_hz"]
    return np.clip(samples, -1.0, 1.0), rate_hz, duration_s


def _by_soundfile(data: bytes, orders: dict[str, Any]) -> tuple[FloatArray, int, float]:
    import soundfile

    if orders["format"] == "wav":
        _check_riff(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate_hz, frames = int(file.samplerate), int(file.frames)
            _check(rate_hz, file.channels, frames / rate_hz, orders)
            wanted = min(frames, int(orders["max_s"] * rate_hz))
            samples: FloatArray = file.read(wanted, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise VoiceError("it is broken, or is not what it says it is") from error
    if len(samples) < wanted:
        raise VoiceError(f"it is cut short: {len(samples)} of {wanted} samples are there")
    return samples, rate_hz, frames / rate_hz


def _by_av(data: bytes, orders: dict[str, Any]) -> tuple[FloatArray, int, float]:
    import av

    form = "mp3" if orders["format"] == "mp3" else "mp4"
    try:
        with av.open(io.BytesIO(data), format=form) as container:
            if not container.streams.audio:
                raise VoiceError("it holds no audio")
            stream = container.streams.audio[0]
            rate_hz = int(stream.rate or 0)
            _check(rate_hz, stream.channels, 0.0, orders)
            wanted = int(orders["max_s"] * rate_hz)
            pieces, frames = [], 0
            for piece in _pieces(container, stream):
                frames += len(piece)
                _check(rate_hz, piece.shape[1], frames / rate_hz, orders)
                # Beyond what is wanted, samples are counted and not kept.
                if frames - len(piece) < wanted:
                    pieces.append(piece)
    except (av.error.FFmpegError, ValueError) as error:
        raise VoiceError("it is broken, or is not what it says it is") from error
    if not pieces:
        raise VoiceError("it holds no audio")
    return np.concatenate(pieces)[:wanted], rate_hz, frames / rate_hz


def _pieces(container: Any, stream: Any) -> Iterator[FloatArray]:
    """Decoded samples [N, channels]."""
    import av

    resampler = av.AudioResampler(format="fltp")
    for frame in container.decode(stream):
        for converted in resampler.resample(frame):
            yield np.asarray(converted.to_ndarray().T, dtype=np.float32)


def _check(rate_hz: int, channels: int, duration_s: float, orders: dict[str, Any]) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise VoiceError(f"it has {rate_hz} Hz; allowed: {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    if not 1 <= channels <= orders["max_channels"]:
        raise VoiceError(f"it has {channels} channels; allowed: 1 to {orders['max_channels']}")
    if duration_s > orders["max_read_s"]:
        raise VoiceError(
            f"it lasts {duration_s:.0f} s or more; allowed: {orders['max_read_s']:g} s"
        )


def _check_riff(data: bytes) -> None:
    """A WAV file says how long it is; libsndfile would take a shorter one as it is."""
    (size,) = struct.unpack_from("<I", data, 4)
    if data[:4] == b"RIFF" and size not in _STREAMED_SIZES and size + 8 > len(data) + 1:
        raise VoiceError(f"it is cut short: {len(data)} of {size + 8} bytes are there")


if __name__ == "__main__":
    main()
