"""Audio files as bytes, for tests that upload them."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import soundfile

from duologue.runtime.voices import ReferenceAudio


def noise(seconds: float = 2.0, rate_hz: int = 24_000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * rate_hz))).astype(np.float32)


def reference(seconds: float = 2.0, rate_hz: int = 16_000, seed: int = 0) -> ReferenceAudio:
    return ReferenceAudio(noise(seconds, rate_hz, seed), rate_hz)


def file_of(samples: Any, rate_hz: int = 24_000, **kind: str) -> bytes:
    """A file that libsndfile writes; WAV unless told otherwise."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **{"format": "WAV", **kind})
    return file.getvalue()


def wav(seconds: float = 2.0, rate_hz: int = 24_000, seed: int = 0) -> bytes:
    return file_of(noise(seconds, rate_hz, seed), rate_hz)


def av_file(container: str, codec: str, seconds: float = 2.0, rate_hz: int = 44_100) -> bytes:
    """A file that PyAV writes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(seconds, rate_hz)[None], "fltp", "mono")
        frame.rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()
