"""A client of the model whose scripts say themselves how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from duologue.client.errors import (
    CapacityError,
    DuologueError,
    EngineError,
    PromptTooLongError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
)
from duologue.client.types import AudioChunk, TurnTime

RATE_HZ = 24_000
CHUNK = 12_000
# What the monitor asks for; a request has further options.
PROBE = {"max_frames": 2}

# A word of the script -> what is raised before any audio.
REFUSALS: dict[str, DuologueError] = {
    "refuse": ScriptError("line 1, column 5: the speaker 3 is unknown"),
    "full": CapacityError("all 4 slots are taken"),
    "long": PromptTooLongError("the prompt has 9000 rows; allowed: 4096"),
    "gone": ServerUnavailableError("no answer from 127.0.0.1:8001: refused"),
    "mute": StreamTimeoutError("127.0.0.1:8001 sent nothing for 30 s"),
    "crash": EngineError("secret /path/of/the/server"),
}


class ScriptedClient:
    """Speaks three chunks of a tone, half a second each, unless a word wants it otherwise.

    Attributes:
        asked: script and options of every stream.
        streams: every stream, without those of the monitor.
        probes: the monitor's.
        ready: the answer to `is_ready`.
        is_broken: every stream fails.
        encoded: how often reference audio was encoded.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.streams: list[ScriptedStream] = []
        self.probes: list[ScriptedStream] = []
        self.ready = True
        self.is_broken = False
        self.is_closed = False
        self.encoded = 0

    def stream(self, script: str, **options: object) -> ScriptedStream:
        script.encode()
        stream = ScriptedStream("crash" if self.is_broken else script, options)
        if options == PROBE:
            self.probes.append(stream)
            return stream
        self.asked.append((script, options))
        self.streams.append(stream)
        return stream

    async def encode(self, samples: np.ndarray) -> np.ndarray:
        """One code per 1280 samples, told from the audio; "crash" breaks it, too."""
        if self.is_broken:
            raise EngineError("secret /path/of/the/server")
        self.encoded += 1
        frames = np.asarray(samples)[: len(samples) // 1280 * 1280].reshape(-1, 1280)
        codes = (np.abs(frames).sum(axis=1) * 1000).astype(np.int32) % 1024
        return np.tile(codes, (8, 1))

    async def is_ready(self) -> bool:
        return self.ready

    async def close(self) -> None:
        self.is_closed = True


class ScriptedStream:
    """ "hold" waits for ever after the first chunk, "break" fails there, "never" says nothing.

    Attributes:
        is_left: the caller is done with it.
        is_whole: its last chunk was taken.
    """

    def __init__(self, script: str, options: dict) -> None:
        self.script = script
        self.options = options
        self.is_left = False
        self.is_whole = False
        self._chunks = self._make()

    async def __aenter__(self) -> ScriptedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_left = True

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> AudioChunk:
        return await self._chunks.__anext__()

    async def _make(self) -> AsyncIterator[AudioChunk]:
        for word, error in REFUSALS.items():
            if word in self.script:
                raise error
        if "never" in self.script:
            await asyncio.Event().wait()
        count = 400 if "endless" in self.script else 3
        for index in range(count):
            is_last = index == count - 1
            self.is_whole = is_last
            yield chunk(index, is_last=is_last, seed=self.options.get("seed") or 7)
            if "hold" in self.script:
                await asyncio.Event().wait()
            if "break" in self.script:
                raise EngineError("secret /path/of/the/server")


def tone(first_sample: int, size: int) -> np.ndarray:
    time_s = (first_sample + np.arange(size)) / RATE_HZ
    return np.round(8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)


def chunk(index: int, *, is_last: bool = False, seed: int = 7) -> AudioChunk:
    return AudioChunk(
        samples=tone(index * CHUNK, CHUNK),
        sample_rate_hz=RATE_HZ,
        index=index,
        first_sample=index * CHUNK,
        turn=min(index, 1),
        speaker=1 + min(index, 1),
        turn_timing="estimated",
        stream_id="s-1",
        seed=seed,
        is_last=is_last,
        finish_reason="stop" if is_last else None,
        turn_times=(TurnTime(1, 0.0, 0.5), TurnTime(2, 0.5, 1.5)) if is_last else (),
    )
