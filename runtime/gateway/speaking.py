# SPDX-License-Identifier: Apache-2.0
"""One request on its way: from what is wanted to pieces of encoded audio."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from duologue.client.errors import (
    DeadlineError,
    EngineError,
    ServerUnavailableError,
    StreamTimeoutError,
)
from duologue.client.types import AudioChunk, SpeechKwargs, SpeechOptions
from duologue.runtime.gateway.connection import ChunkStream
from duologue.runtime.gateway.effects import Reshaper
from duologue.runtime.gateway.encode import AudioFormat, encoder_rate_hz, make_encoder
from duologue.runtime.gateway.faults import Fault, fault_of
from duologue.runtime.gateway.house import House
from duologue.runtime.gateway.keys import Visitor
from duologue.runtime.gateway.limits import NOBODY
from duologue.runtime.gateway.logs import log_event

_FULL = ("server_full", "rate_limit_exceeded")
# Codes of streams that the watchdog ended -> what was late.
_TOO_LATE = {
    "no_audio_in_time": "no_audio",
    "deadline_exceeded": "deadline",
    "reader_stalled": "reader",
}
_MODEL_FAILED = (EngineError, ServerUnavailableError, StreamTimeoutError)

# The model keeps to the deadline by itself; the door waits a little longer before it acts.
DEADLINE_SLACK_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one caller wants said, whatever door it came through.

    Attributes:
        door: "speech", "dialogue", ...: for the metrics.
        script: in a notation of the server's parser.
        options: for the model.
        audio_format: of the pieces.
        sample_rate_hz: of the pieces; None leaves it to model and format.
        speed, pitch: changed after the model, while the audio streams.
        visitor: who wants it.
    """

    door: str
    script: str
    options: SpeechOptions
    audio_format: AudioFormat
    sample_rate_hz: int | None = None
    speed: float = 1.0
    pitch: float = 1.0
    visitor: Visitor = NOBODY


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded audio, and the chunk of the model that it came with.

    Attributes:
        data: may be empty: encoders gather samples first.
        chunk: as the model gave it.
        sample_rate_hz: of the encoded audio.
    """

    data: bytes
    chunk: AudioChunk
    sample_rate_hz: int

    @property
    def audio_s(self) -> float:
        """Length of the chunk as the model gave it."""
        return len(self.chunk.samples) / self.chunk.sample_rate_hz


async def speak(house: House, wanted: Wanted) -> AsyncGenerator[Piece, None]:
    """Speak; closing the generator cancels the request at the model.

    Raises:
        DuologueError: what went wrong, by its type; nothing waits for longer than the settings
            allow.
    """
    visit = _Visit(house, wanted)
    try:
        house.outage.check()
        with house.admission.admitted(wanted.visitor), house.metrics.active.track_inprogress():
            # Not left to the garbage collector: closing it is what frees the slot.
            async with aclosing(_pieces(house, wanted, visit)) as pieces:
                async for piece in pieces:
                    yield piece
        visit.outcome = "ok"
    except Exception as error:
        visit.fail(error)
        raise
    finally:
        visit.end()


async def _pieces(house: House, wanted: Wanted, visit: _Visit) -> AsyncGenerator[Piece, None]:
    api = house.settings.api
    timeout_s = min(api.timeout, wanted.options.deadline_s or math.inf)
    max_ahead_s = min(api.max_ahead, wanted.options.max_ahead_s or math.inf)
    options = dataclasses.replace(wanted.options, deadline_s=timeout_s, max_ahead_s=max_ahead_s)
    deadline = time.monotonic() + timeout_s + DEADLINE_SLACK_S
    line: _Line | None = None
    async with house.client.stream(wanted.script, **_as_kwargs(options)) as stream:
        is_last = False
        while not is_last:
            before = time.monotonic()
            patience_s = api.chunk_timeout if line is None else api.gap_timeout
            chunk = await _next_chunk(house, stream, patience_s, deadline - before)
            line = line or _Line(wanted, chunk.sample_rate_hz)
            data = await asyncio.to_thread(line.encode, chunk)
            visit.took(chunk, time.monotonic() - before)
            yield Piece(data, chunk, line.sample_rate_hz)
            is_last = chunk.is_last
        try:
            # The client closes the call in order once it is asked for what follows the last one.
            await stream.__anext__()
        except StopAsyncIteration:
            return


async def _next_chunk(
    house: House, stream: ChunkStream, patience_s: float, remaining_s: float
) -> AudioChunk:
    """The watchdog: the process of a model may die without anybody being told."""
    try:
        timeout_s = max(0.0, min(patience_s, remaining_s))
        return await house.outage.wait_for(stream.__anext__(), timeout_s)
    except asyncio.TimeoutError:
        if remaining_s <= patience_s:
            raise DeadlineError("the request took longer than the server allows") from None
        raise StreamTimeoutError(f"no audio came for {patience_s:g} s") from None


def _as_kwargs(options: SpeechOptions) -> SpeechKwargs:
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return cast("SpeechKwargs", values)


class _Line:
    """The way of one stream's samples: speed and pitch, rate, encoder."""

    def __init__(self, wanted: Wanted, model_rate_hz: int) -> None:
        self.sample_rate_hz = encoder_rate_hz(
            wanted.audio_format, wanted.sample_rate_hz or model_rate_hz
        )
        self._reshaper = Reshaper(
            model_rate_hz, self.sample_rate_hz, speed=wanted.speed, pitch=wanted.pitch
        )
        self._encoder = make_encoder(wanted.audio_format, self.sample_rate_hz)

    def encode(self, chunk: AudioChunk) -> bytes:
        data = self._encoder.encode(self._reshaper.process(chunk.samples))
        if chunk.is_last:
            data += self._encoder.encode(self._reshaper.finish()) + self._encoder.finish()
        return data


class _Visit:
    """The record of one request for log and metrics.

    Only the time spent waiting for the model counts as the model's, so that a caller who reads
    slowly spoils no figure.
    """

    def __init__(self, house: House, wanted: Wanted) -> None:
        self.outcome = "cancelled"
        self._house = house
        self._wanted = wanted
        self._began_at = time.monotonic()
        self._waited_s = 0.0
        self._audio_s = 0.0
        self._buffered_s = 0.0
        self._fault: Fault | None = None

    def took(self, chunk: AudioChunk, waited_s: float) -> None:
        audio_s = len(chunk.samples) / chunk.sample_rate_hz
        is_first = chunk.index == 0
        late_s = 0.0 if is_first else max(0.0, waited_s - self._buffered_s)
        self._house.metrics.chunk(waited_s, audio_s, late_s, is_first=is_first)
        self._buffered_s = audio_s + max(0.0, self._buffered_s - (0.0 if is_first else waited_s))
        self._waited_s += waited_s
        self._audio_s += audio_s

    def fail(self, error: Exception) -> None:
        self._fault = fault_of(error)
        self.outcome = self._fault.code
        if self.outcome in _TOO_LATE:
            self._house.metrics.too_late(_TOO_LATE[self.outcome])
        if self.outcome in _FULL:
            self._house.metrics.refused(self.outcome)
        if isinstance(error, _MODEL_FAILED):
            self._house.trouble.ring()
        level = logging.ERROR if self._fault.is_ours else logging.INFO
        unknown = self._fault.code == "internal_error"
        # The texts of script errors quote the script, which is nobody's business here.
        what = str(error) if self._fault.status >= 500 else self._fault.code
        log_event(
            level,
            "failed",
            error=error if unknown else None,
            request_id=self._wanted.visitor.request_id,
            type=type(error).__name__,
            reason=what,
        )

    def end(self) -> None:
        took_s = time.monotonic() - self._began_at
        rtf = self._waited_s / self._audio_s if self._audio_s > 0 else None
        is_ours = self._fault is not None and self._fault.is_ours
        self._house.metrics.ended(
            self._wanted.door, self.outcome, took_s, rtf, is_our_fault=is_ours
        )
        with_text = self._house.settings.logging.with_text
        text: dict[str, Any] = {"script": self._wanted.script} if with_text else {}
        # The bare number comes first: log analysis of the MegaTTS3 platform averages field 4.
        log_event(
            logging.INFO,
            f"{took_s:.3f} synthesis_time",
            request_id=self._wanted.visitor.request_id,
            door=self._wanted.door,
            outcome=self.outcome,
            took_s=took_s,
            audio_s=self._audio_s,
            **text,
        )
