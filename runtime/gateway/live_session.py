# SPDX-License-Identifier: Apache-2.0
"""What all sessions over a WebSocket share: messages in, one text after the other out."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fastapi import WebSocket
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocketDisconnect

from duologue.client.errors import CapacityError, RequestError
from duologue.client.patience import within
from duologue.runtime.gateway.faults import Fault, StalledError, fault_of
from duologue.runtime.gateway.fields import check_text
from duologue.runtime.gateway.house import House, house_of
from duologue.runtime.gateway.keys import Visitor, is_welcome, visitor_of

# Flushed texts that may wait for the one that is spoken.
MAX_WAITING = 8
_POLICY_CLOSE = 1008

_Wanted = TypeVar("_Wanted")
_Fields = TypeVar("_Fields", bound=BaseModel)


class LiveSession(ABC, Generic[_Wanted]):
    """Reads messages while a task of its own speaks what was flushed.

    Attributes:
        house: what the routes share.
        visitor: who holds the session.
        says_goodbye: `session.done` ends the session, rather than each text.
    """

    says_goodbye = False

    def __init__(self, socket: WebSocket, house: House) -> None:
        """Take over an accepted socket."""
        self.house = house
        self.visitor: Visitor = visitor_of(socket)
        self._socket = socket
        self._text = ""
        self._has_flushed = False
        self._waiting: asyncio.Queue[_Wanted] = asyncio.Queue(MAX_WAITING)
        self._speaking: asyncio.Task[None] | None = None

    @abstractmethod
    def configure(self, message: dict[str, Any]) -> None:
        """Take in a `session.config`.

        Raises:
            RequestError: a field is unknown or out of range.
        """

    @abstractmethod
    async def flush(self, text: str) -> _Wanted:
        """What is to be spoken, with the settings of this moment.

        Raises:
            DuologueError: it cannot be spoken.
        """

    @abstractmethod
    async def speak(self, wanted: _Wanted) -> None:
        """Speak what was flushed."""

    def told(self, fault: Fault) -> dict[str, Any]:
        """Fields of an `error` message."""
        return fault.body

    async def run(self) -> None:
        """Hold the session until it ends."""
        is_open = True
        try:
            while is_open:
                message = await self._receive()
                try:
                    is_open = await self._handle(message)
                except (WebSocketDisconnect, StalledError):
                    raise
                except Exception as error:
                    await self.send({"type": "error", **self.told(fault_of(error))})
            await self._finish()
        finally:
            await self._stop()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        await self._patiently(self._socket.send_text(json.dumps(message, ensure_ascii=False)))

    async def send_bytes(self, data: bytes) -> None:
        """Send audio."""
        await self._patiently(self._socket.send_bytes(data))

    async def _receive(self) -> dict[str, Any]:
        """One message of the caller; a session in which nothing happens any more is ended."""
        while True:
            try:
                timeout_s = self.house.settings.api.timeout
                message = await within(self._socket.receive(), timeout_s)
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
            self.configure(message)
        elif kind == "input.text":
            text = message.get("text")
            if not isinstance(text, str):
                raise RequestError("input.text needs a field `text` with a string")
            self._take(text)
        elif kind in ("input.flush", "input.done"):
            await self._flush()
        elif kind == "cancel":
            self._text = ""
            if await self._stop():
                await self.send({"type": "audio.cancelled"})
        elif kind == "session.close":
            return False
        else:
            raise RequestError(f"the message type {str(kind)[:40]!r} is unknown")
        return True

    def _take(self, text: str) -> None:
        whole = self._text + text
        max_chars = self.house.settings.api.max_text_chars
        # Blanks may come first, yet not without end.
        if whole.strip() or len(whole) > max_chars:
            check_text(whole, max_chars)
        self._text = whole

    async def _flush(self) -> None:
        text, self._text = self._text, ""
        # Wrong names are told now, not when the turn of this text has come.
        wanted = await self.flush(text)
        if self._has_flushed:  # the first one was counted at the door
            self.house.rates.take(self.visitor)
        self._has_flushed = True
        try:
            self._waiting.put_nowait(wanted)
        except asyncio.QueueFull:
            raise CapacityError(f"{MAX_WAITING} texts are waiting already") from None
        if not self._is_speaking:
            self._speaking = asyncio.create_task(self._speak_waiting())

    @property
    def _is_speaking(self) -> bool:
        return self._speaking is not None and not self._speaking.done()

    async def _speak_waiting(self) -> None:
        while not self._waiting.empty():
            wanted = self._waiting.get_nowait()
            try:
                await self.speak(wanted)
            except (WebSocketDisconnect, StalledError):
                raise
            except Exception as error:
                await self.send({"type": "error", **self.told(fault_of(error))})

    async def _finish(self) -> None:
        """Let what was flushed be spoken, then say good-bye."""
        if self._speaking is not None:
            await self._speaking
        if self.says_goodbye:
            await self.send({"type": "session.done"})
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

    async def _patiently(self, sending: Any) -> None:
        try:
            await within(sending, self.house.settings.api.stall_timeout)
        except asyncio.TimeoutError:
            raise StalledError("the caller took nothing for too long") from None


async def hold_session(socket: WebSocket, kind: type[LiveSession[Any]]) -> None:
    """Accept a socket and hold a session over it; pages of other sites are not let in."""
    house = house_of(socket)
    if not is_welcome(socket.headers, house.settings.api.cors):
        await socket.close(_POLICY_CLOSE, "pages of other sites are not let in")
        return
    await socket.accept()
    with suppress(WebSocketDisconnect, StalledError):
        await kind(socket, house).run()


def read_config(kind: type[_Fields], message: dict[str, Any]) -> _Fields:
    """The fields of a `session.config`.

    Raises:
        RequestError: names the first wrong field.
    """
    try:
        return kind.model_validate(message)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RequestError(f"{where}: {fault['msg']}") from None


def _read_message(text: str | None) -> dict[str, Any]:
    """A message as an object; what is none has no type, and is answered as such."""
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
