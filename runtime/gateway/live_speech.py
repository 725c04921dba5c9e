# SPDX-License-Identifier: Apache-2.0
"""Speech over a WebSocket by the messages of vLLM-Omni and SGLang-Omni.

The caller sends JSON: `session.config` (fields of `SpokenFields`), `input.text`, `input.done`
(speak what came so far; the session goes on), `session.close`; and, beyond those servers,
`cancel`. The server sends `audio.start`, the audio as binary messages, `audio.done`, and
`session.done` after each text. Another text may come while one is spoken, and waits for it.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import Field

from duologue.client.errors import ScriptError
from duologue.runtime.gateway.answer import throw_into
from duologue.runtime.gateway.encode import AudioFormat
from duologue.runtime.gateway.faults import Fault, StalledError
from duologue.runtime.gateway.fields import Name
from duologue.runtime.gateway.live_session import LiveSession, hold_session, read_config
from duologue.runtime.gateway.speaking import Piece, speak
from duologue.runtime.gateway.speech_fields import SpokenFields, wanted_speech

router = APIRouter()


class SessionFields(SpokenFields):
    """What a session is set to.

    Attributes:
        model: may be left out.
        stream_audio: the audio always streams.
        split_granularity: of other servers; a text is spoken as one here.
    """

    model: Name | None = None
    response_format: AudioFormat = "pcm"
    stream_audio: bool = True
    split_granularity: Name | None = Field(default=None, description="no effect")


@router.websocket("/v1/audio/speech/stream")
async def live_speech(socket: WebSocket) -> None:
    """One session."""
    await hold_session(socket, _SpeechSession)


@dataclass(frozen=True, slots=True)
class _Utterance:
    """A text to be spoken, with the settings of the moment of its flush."""

    text: str
    fields: SessionFields
    idx: int


class _SpeechSession(LiveSession[_Utterance]):
    fields = SessionFields()
    num_flushed = 0

    def configure(self, message: dict[str, Any]) -> None:
        fields = read_config(SessionFields, message)
        if fields.model is not None:
            self.house.check_model(fields.model)
        self.fields = fields

    async def flush(self, text: str) -> _Utterance:
        if not text.strip():
            raise ScriptError("the text is empty; allowed: at least one word")
        utterance = _Utterance(text, self.fields, self.num_flushed)
        self.num_flushed += 1
        return utterance

    async def speak(self, wanted: _Utterance) -> None:
        speech = await wanted_speech(self.house, wanted.text, wanted.fields, self.visitor, "live")
        place = {"utterance_index": wanted.idx, "sentence_index": 0}
        num_bytes = 0
        async with aclosing(speak(self.house, speech)) as pieces:
            try:
                async for piece in pieces:
                    if piece.chunk.index == 0:
                        await self.send(_start(piece, wanted, place))
                    if piece.data:
                        num_bytes += len(piece.data)
                        await self.send_bytes(piece.data)
            except StalledError as error:
                await throw_into(pieces, error)
                raise
        done = {"total_bytes": num_bytes, "error": False}
        await self.send({"type": "audio.done", **place, **done})
        await self.send({"type": "session.done", "utterance_index": wanted.idx, **_ONE})

    def told(self, fault: Fault) -> dict[str, Any]:
        """Those clients read the message at the top."""
        return {"message": fault.message, **fault.body}


_ONE = {"total_sentences": 1}


def _start(piece: Piece, wanted: _Utterance, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "audio.start",
        **place,
        "sentence_text": wanted.text,
        "format": wanted.fields.response_format,
        "sample_rate": piece.sample_rate_hz,
        "seed": piece.chunk.seed,
    }
