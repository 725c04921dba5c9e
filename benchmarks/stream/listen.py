# SPDX-License-Identifier: Apache-2.0
"""One caller: sends a request, takes its chunks, and notes when they came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from duologue.benchmarks.stream.clicks import SeamCollector
from duologue.benchmarks.stream.plan import Ask
from duologue.benchmarks.stream.records import Arrival, Int16Array, RequestRecord
from duologue.client.types import SpeechKwargs

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Chunk(Protocol):
    """What is read of a chunk of audio."""

    @property
    def samples(self) -> Int16Array:
        """[N]."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples."""
        ...


class ChunkStream(Protocol):
    """Chunks of one request, such as `duologue.client.SpeechStream`."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def close(self) -> None:
        """End it; cancels what is not finished."""
        ...


class Speaker(Protocol):
    """Who is asked to speak, such as `duologue.client.DialogueClient`; used from many threads."""

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script."""
        ...


class Listener:
    """Turns requests into records.

    Args:
        speaker: who is asked.
        errors: what may go wrong with a request; anything else is a fault of the benchmark.
        buffer_s: see `StreamPlan.buffer_s`.
    """

    def __init__(
        self,
        speaker: Speaker,
        errors: tuple[type[Exception], ...],
        buffer_s: float | None = None,
    ) -> None:
        self._speaker = speaker
        self._errors = errors
        self._buffer_s = buffer_s

    def listen(self, ask: Ask, *, due_s: float | None = None, is_warmup: bool) -> RequestRecord:
        """Send a request and wait for its end.

        Args:
            ask: the request.
            due_s: when it should have been sent, on the monotonic clock; None is now.
            is_warmup: kept in the record.
        """
        started_s = time.monotonic()
        arrivals: list[Arrival] = []
        seams = SeamCollector()
        error, rate_hz = None, 0
        try:
            stream = self._speaker.stream(ask.script, **ask.options)
            try:
                for chunk in stream:
                    rate_hz = chunk.sample_rate_hz
                    arrivals.append(Arrival(time.monotonic(), len(chunk.samples)))
                    seams.add(chunk.samples, rate_hz)
                    self._play(arrivals, rate_hz)
            finally:
                stream.close()
        except self._errors as problem:
            error = f"{type(problem).__name__}: {problem}"
        return RequestRecord(
            workload=ask.workload,
            due_s=started_s if due_s is None else due_s,
            started_s=started_s,
            ended_s=arrivals[-1].at_s if arrivals and error is None else time.monotonic(),
            sample_rate_hz=rate_hz,
            arrivals=tuple(arrivals),
            seams=tuple(seams.seams),
            error=error,
            is_warmup=is_warmup,
        )

    def _play(self, arrivals: list[Arrival], rate_hz: int) -> None:
        """Wait, as a player does, until little of the audio so far is left."""
        if self._buffer_s is None:
            return
        until_s = arrivals[0].at_s
        for arrival in arrivals:
            until_s = max(until_s, arrival.at_s) + arrival.num_samples / rate_hz
        wait_s = until_s - self._buffer_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
