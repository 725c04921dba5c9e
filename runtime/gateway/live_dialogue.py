# SPDX-License-Identifier: Apache-2.0
"""Dialogues over a WebSocket: text comes piece by piece, audio leaves as it is made.

The caller sends JSON: `session.config` (fields of `DialogueFields`), `input.text` (a piece of the
script), `input.flush` (speak what came so far; `input.done` is the same), `cancel`,
`session.close`. The server sends JSON (`audio.start`, `audio.turn`, `audio.done`,
`audio.cancelled`, `error`, `session.done`) and the audio as binary messages. The model needs the
whole script before it begins, so nothing is spoken before a flush.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, WebSocket

from duologue.client.errors import RequestError
from duologue.runtime.gateway.answer import throw_into
from duologue.runtime.gateway.dialogue import DialogueFields, read_script, wanted_of
from duologue.runtime.gateway.dialogue_output import Dialogue, delta_fields, done_fields
from duologue.runtime.gateway.faults import StalledError
from duologue.runtime.gateway.live_session import LiveSession, hold_session, read_config
from duologue.runtime.gateway.speaking import Piece, Wanted, speak

router = APIRouter()


@router.websocket("/v1/audio/dialogue/stream")
async def live_dialogue(socket: WebSocket) -> None:
    """One session."""
    await hold_session(socket, _DialogueSession)


@dataclass(frozen=True, slots=True)
class _Flushed:
    """A dialogue to be spoken, with the settings of the moment of its flush."""

    dialogue: Dialogue
    wanted: Wanted
    fields: DialogueFields


class _DialogueSession(LiveSession[_Flushed]):
    says_goodbye = True
    fields = DialogueFields(response_format="pcm")

    def configure(self, message: dict[str, Any]) -> None:
        fields = read_config(DialogueFields, message)
        if fields.response_format in ("srt", "vtt"):
            raise RequestError("a session sends audio; subtitles come with audio.done: `subtitles`")
        self.fields = fields

    async def flush(self, text: str) -> _Flushed:
        limit = self.house.settings.api.max_text_chars
        dialogue = read_script(text, self.fields.voices, limit)
        wanted = await wanted_of(self.house, self.fields, dialogue, self.visitor)
        return _Flushed(dialogue, wanted, self.fields)

    async def speak(self, wanted: _Flushed) -> None:
        turn = -1
        async with aclosing(speak(self.house, wanted.wanted)) as pieces:
            try:
                async for piece in pieces:
                    await self._send_piece(piece, wanted, is_new_turn=piece.chunk.turn != turn)
                    turn = piece.chunk.turn
            except StalledError as error:
                await throw_into(pieces, error)
                raise

    async def _send_piece(self, piece: Piece, flushed: _Flushed, *, is_new_turn: bool) -> None:
        chunk, fields = piece.chunk, flushed.fields
        if chunk.index == 0:
            await self.send(_start(piece, fields))
        if is_new_turn:
            await self.send({"type": "audio.turn", **delta_fields(chunk, fields.speed)})
        if piece.data:
            await self.send_bytes(piece.data)
        if chunk.is_last:
            done = done_fields(chunk, flushed.dialogue, fields.speed, fields.subtitles)
            await self.send({"type": "audio.done", **done})


def _start(piece: Piece, fields: DialogueFields) -> dict[str, Any]:
    return {
        "type": "audio.start",
        "response_format": fields.response_format,
        "sample_rate": piece.sample_rate_hz,
        "seed": piece.chunk.seed,
    }
