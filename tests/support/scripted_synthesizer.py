"""A synthesizer whose requests say themselves how they end."""

from __future__ import annotations

import threading

import numpy as np
from fakes import BUNDLE

from duologue.runtime.core import (
    FinishReason,
    PcmChunk,
    Script,
    SpeechRequest,
    Turn,
    TurnTime,
    TurnTiming,
)
from duologue.runtime.engine import EngineStats
from duologue.runtime.errors import EngineError, ScriptError
from duologue.runtime.stream import SpeechStream

RATE_HZ = 100
CHUNK = 10
NO_CODES = np.empty((4, 0), dtype=np.int64)


class ScriptedSynthesizer:
    """Understands "speak N", "hold N" (until it is cancelled), "break N", "refuse" and "crash"."""

    bundle = BUNDLE
    sample_rate_hz = RATE_HZ

    def __init__(self) -> None:
        self.streams: list[SpeechStream] = []
        self.requests: list[SpeechRequest] = []
        self.is_closed = False

    @property
    def stats(self) -> EngineStats:
        running = sum(not stream.is_ended for stream in self.streams)
        return EngineStats(running, 0, 0)

    def submit(self, request: SpeechRequest) -> SpeechStream:
        self.requests.append(request)
        verb, _, count = request.script.partition(" ")
        if verb == "refuse":
            raise ScriptError("nothing is said", 3, 7)
        if verb == "crash":
            raise RuntimeError("secret /path/of/the/server")
        stream = SpeechStream(
            script=Script((Turn(1, request.script),)),
            seed=7 if request.seed is None else request.seed,
            sample_rate_hz=RATE_HZ,
            max_ahead_s=request.max_ahead_s,
            max_backlog_samples=10**9,
        )
        self.streams.append(stream)
        threading.Thread(target=self._produce, args=(stream, verb, int(count or 1))).start()
        return stream

    def _produce(self, stream: SpeechStream, verb: str, count: int) -> None:
        for i in range(count):
            stream.put(scripted_chunk(i, is_last=verb == "speak" and i == count - 1), NO_CODES)
        if verb == "break":
            stream.fail(EngineError("the engine failed"))

    def close(self) -> None:
        self.is_closed = True


def scripted_chunk(index: int, is_last: bool) -> PcmChunk:
    """Chunk `index`: its samples are all index / 100."""
    return PcmChunk(
        samples=np.full(CHUNK, index / 100, dtype=np.float32),
        sample_rate_hz=RATE_HZ,
        index=index,
        first_sample=index * CHUNK,
        turn=0,
        speaker=1,
        turn_timing=TurnTiming.ESTIMATED,
        is_last=is_last,
        finish_reason=FinishReason.LENGTH if is_last else None,
        turn_times=(TurnTime(1, 0.0, 0.5),) if is_last else (),
    )
