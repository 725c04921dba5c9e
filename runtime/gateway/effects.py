# SPDX-License-Identifier: Apache-2.0
"""Speed, pitch and sample rate, changed while the audio streams."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from duologue.client.types import Int16Array
from duologue.runtime.gateway.encode import as_frame

# What one atempo filter does well. Beyond 2 it skips samples, and at 8 it was seen to fail an
# assertion of FFmpeg's, which ends the process.
_MIN_TEMPO, _MAX_TEMPO = 0.5, 2.0
_NOTHING: Int16Array = np.empty(0, dtype=np.int16)


class TempoPitch:
    """Speaks faster or slower, higher or lower, by FFmpeg's filters."""

    def __init__(self, sample_rate_hz: int, speed: float, pitch: float) -> None:
        """Set the filters up.

        Args:
            sample_rate_hz: of the samples, which stays the same.
            speed: 2.0 takes half the time.
            pitch: 2.0 is an octave higher, in the same time.
        """
        self._rate_hz = sample_rate_hz
        self._position = 0
        self._graph = _build(sample_rate_hz, _chain(sample_rate_hz, speed, pitch))

    def process(self, samples: Int16Array) -> Int16Array:
        """The samples that are ready with these [N]; the filters keep some for later."""
        if len(samples) == 0:
            return _NOTHING
        self._graph.push(as_frame(samples, self._rate_hz, self._position))
        self._position += len(samples)
        return self._pull()

    def finish(self) -> Int16Array:
        """The samples that the filters have kept. Nothing may follow."""
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Int16Array:
        parts = []
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            assert isinstance(frame, AudioFrame)
            parts.append(frame.to_ndarray().reshape(-1).astype(np.int16, copy=False))
        return np.concatenate(parts) if parts else _NOTHING


class Reshaper:
    """From the model's samples to those that the caller wants."""

    def __init__(self, from_hz: int, to_hz: int, *, speed: float = 1.0, pitch: float = 1.0) -> None:
        """Do only what is asked for: at speed 1, pitch 1 and one rate nothing is touched."""
        is_plain = speed == 1.0 and pitch == 1.0
        self._tempo = None if is_plain else TempoPitch(from_hz, speed, pitch)
        self._rate = None
        if from_hz != to_hz:
            self._rate = soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16")

    def process(self, samples: Int16Array) -> Int16Array:
        """The samples that are ready with these [N]."""
        if self._tempo is not None:
            samples = self._tempo.process(samples)
        return self._resample(samples, is_last=False)

    def finish(self) -> Int16Array:
        """The samples that are left. Nothing may follow."""
        samples = _NOTHING if self._tempo is None else self._tempo.finish()
        return self._resample(samples, is_last=True)

    def _resample(self, samples: Int16Array, *, is_last: bool) -> Int16Array:
        if self._rate is None:
            return samples
        resampled: Int16Array = self._rate.resample_chunk(samples, last=is_last)
        return resampled


def _chain(sample_rate_hz: int, speed: float, pitch: float) -> list[tuple[str, str]]:
    """Names and arguments of the filters.

    `asetrate` raises pitch and tempo together; `atempo` then sets the tempo alone.
    """
    filters = []
    if pitch != 1.0:
        filters.append(("asetrate", str(round(sample_rate_hz * pitch))))
        filters.append(("aresample", str(sample_rate_hz)))
    filters += [("atempo", f"{tempo:.6f}") for tempo in _tempos(speed / pitch)]
    filters.append(("aformat", "sample_fmts=s16:channel_layouts=mono"))
    return filters


def _tempos(tempo: float) -> list[float]:
    """Factors that one filter can do, whose product is the tempo.

    >>> _tempos(8.0), _tempos(0.3), _tempos(1.0)
    ([2.0, 2.0, 2.0], [0.5, 0.6], [])
    """
    factors = []
    while not _MIN_TEMPO <= tempo <= _MAX_TEMPO:
        factors.append(_MIN_TEMPO if tempo < _MIN_TEMPO else _MAX_TEMPO)
        tempo /= factors[-1]
    return factors if tempo == 1.0 else [*factors, tempo]


def _build(sample_rate_hz: int, chain: list[tuple[str, str]]) -> Graph:
    graph = Graph()
    last: FilterContext = graph.add_abuffer(
        sample_rate=sample_rate_hz,
        format="s16",
        layout="mono",
        time_base=Fraction(1, sample_rate_hz),
    )
    for name, arguments in chain:
        following = graph.add(name, arguments)
        last.link_to(following)
        last = following
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph
