# SPDX-License-Identifier: Apache-2.0
"""Dialogues over a WebSocket: text comes piece by piece, audio leaves as it is made.

The caller sends JSON: `session.config` (fields of `DialogueFields`), `input.text` (a piece of the
script), `input.flush` (speak what came so far; `input.done` is the same), `cancel`,
`session.close`. The server sends JSON (`audio.start`, `audio.turn`, `audio.done`,
`audio.cancelled`, `error`, `session.done`) and the audio as binary messages. The model needs the
whole script before it begins, so nothing is spoken before a flush.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from duologue.client.errors import CapacityError, RequestError
from duologue.runtime.gateway.answer import throw_into
from duologue.runtime.gateway.dialogue import DialogueFields, read_script, wanted_of
from duologue.runtime.gateway.dialogue_output import Dialogue, delta_fields, done_fields
from duologue.runtime.gateway.faults import StalledError, fault_of
from duologue.runtime.gateway.fields import check_text
from duologue.runtime.gateway.house import House, house_of
from duologue.runtime.gateway.keys import is_welcome, visitor_of
from duologue.runtime.gateway.speaking import Piece, Wanted, speak

# Flushed dialogues that may wait for the one that is spoken.
MAX_WAITING = 8
_POLICY_CLOSE = 1008

router = APIRouter()


@router.websocket("/v1/audio/dialogue/stream")
async def live_dialogue(socket: WebSocket) -> None:
    """One session."""
    house = house_of(socket)
    if not is_welcome(socket.headers, house.settings.api.cors):
        await socket.close(_POLICY_CLOSE, "pages of other sites are not let in")
        return
    await socket.accept()
    with suppress(WebSocketDisconnect, StalledError):
        await _Session(socket, house).run()


@dataclass(frozen=True, slots=True)
class _Flushed:
    """A dialogue to be spoken, with the settings of the moment of its flush."""

    dialogue: Dialogue
    wanted: Wanted
    fields: DialogueFields


class _Session:
    """Reads messages while a task of its own speaks what was flushed."""

    def __init__(self, socket: WebSocket, house: House) -> None:
        self._socket = socket
        self._house = house
        self._visitor = visitor_of(socket)
        self._fields = DialogueFields(response_format="pcm")
        self._text = ""
        self._waiting: asyncio.Queue[_Flushed] = asyncio.Queue(MAX_WAITING)
        self._speaking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        is_open = True
        try:
            while is_open:
                message = await self._receive()
                try:
                    is_open = await self._handle(message)
                except (WebSocketDisconnect, StalledError):
                    raise
                except Exception as error:
                    await self._send({"type": "error", **fault_of(error).body})
            await self._finish()
        finally:
            await self._stop()

    async def _receive(self) -> dict[str, Any]:
        """One message of the caller; a session in which nothing happens any more is ended."""
        while True:
            try:
                timeout_s = self._house.settings.api.timeout
                message = await asyncio.wait_for(self._socket.receive(), timeout_s)
            except asyncio.TimeoutError:
                if self._is_speaking:
                    continue
                return {"type": "session.close"}
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            return _read_message(message.get("text"))

    async def _handle(self, message: dict[str, Any]) -> bool:
        kind = message.pop("type", None)
        if kind == "session.config":
            self._fields = _read_fields(message)
        elif kind == "input.text":
            text = message.get("text")
            if not isinstance(text, str):
                raise RequestError("input.text needs a field `text` with a string")
            self._take(text)
        elif kind in ("input.flush", "input.done"):
            self._flush()
        elif kind == "cancel":
            self._text = ""
            if await self._stop():
                await self._send({"type": "audio.cancelled"})
        elif kind == "session.close":
            return False
        else:
            raise RequestError(f"the message type {str(kind)[:40]!r} is unknown")
        return True

    def _take(self, text: str) -> None:
        whole = self._text + text
        if whole.strip():
            check_text(whole, self._house.settings.api.max_text_chars)
        self._text = whole

    def _flush(self) -> None:
        text, self._text = self._text, ""
        limit = self._house.settings.api.max_text_chars
        dialogue = read_script(text, self._fields.voices, limit)
        # Wrong names are told now, not when the turn of this dialogue has come.
        wanted = wanted_of(self._house, self._fields, dialogue, self._visitor)
        try:
            self._waiting.put_nowait(_Flushed(dialogue, wanted, self._fields))
        except asyncio.QueueFull:
            raise CapacityError(f"{MAX_WAITING} dialogues are waiting already") from None
        if not self._is_speaking:
            self._speaking = asyncio.create_task(self._speak_waiting())

    @property
    def _is_speaking(self) -> bool:
        return self._speaking is not None and not self._speaking.done()

    async def _speak_waiting(self) -> None:
        while not self._waiting.empty():
            flushed = self._waiting.get_nowait()
            try:
                await self._speak(flushed)
            except (WebSocketDisconnect, StalledError):
                raise
            except Exception as error:
                await self._send({"type": "error", **fault_of(error).body})

    async def _speak(self, flushed: _Flushed) -> None:
        turn = -1
        async with aclosing(speak(self._house, flushed.wanted)) as pieces:
            try:
                async for piece in pieces:
                    await self._send_piece(piece, flushed, is_new_turn=piece.chunk.turn != turn)
                    turn = piece.chunk.turn
            except StalledError as error:
                await throw_into(pieces, error)
                raise

    async def _send_piece(self, piece: Piece, flushed: _Flushed, *, is_new_turn: bool) -> None:
        chunk, fields = piece.chunk, flushed.fields
        if chunk.index == 0:
            await self._send(_start(piece, fields))
        if is_new_turn:
            await self._send({"type": "audio.turn", **delta_fields(chunk, fields.speed)})
        if piece.data:
            await self._patiently(self._socket.send_bytes(piece.data))
        if chunk.is_last:
            done = done_fields(chunk, flushed.dialogue, fields.speed, fields.subtitles)
            await self._send({"type": "audio.done", **done})

    async def _finish(self) -> None:
        """Let what was flushed be spoken, then say good-bye."""
        if self._speaking is not None:
            await self._speaking
        await self._send({"type": "session.done"})
        await self._socket.close()

    async def _stop(self) -> bool:
        """Cancel what is spoken and forget what waits; whether anything was."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        task, self._speaking = self._speaking, None
        if task is None:
            return False
        was_running = task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return was_running

    async def _send(self, message: dict[str, Any]) -> None:
        await self._patiently(self._socket.send_text(json.dumps(message, ensure_ascii=False)))

    async def _patiently(self, sending: Any) -> None:
        try:
            await asyncio.wait_for(sending, self._house.settings.api.stall_timeout)
        except asyncio.TimeoutError:
            raise StalledError("the caller took nothing for too long") from None


def _start(piece: Piece, fields: DialogueFields) -> dict[str, Any]:
    return {
        "type": "audio.start",
        "response_format": fields.response_format,
        "sample_rate": piece.sample_rate_hz,
        "seed": piece.chunk.seed,
    }


def _read_message(text: str | None) -> dict[str, Any]:
    """A message as an object; what is none has no type, and is answered as such."""
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _read_fields(message: dict[str, Any]) -> DialogueFields:
    try:
        fields = DialogueFields.model_validate(message)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RequestError(f"{where}: {fault['msg']}") from None
    if fields.response_format in ("srt", "vtt"):
        raise RequestError("a session sends audio; subtitles come with audio.done: `subtitles`")
    return fields
