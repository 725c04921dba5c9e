# SPDX-License-Identifier: Apache-2.0
"""What happens to every request before a route sees it: its names, its key, its size.

Plain ASGI: nothing here holds an answer back.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duologue.client.errors import DuologueError
from duologue.client.patience import within
from duologue.runtime.gateway.answer import fault_response
from duologue.runtime.gateway.faults import BodyTooLargeError, Fault, ForbiddenError, fault_of
from duologue.runtime.gateway.host_names import HostNames
from duologue.runtime.gateway.house import House
from duologue.runtime.gateway.keys import Visitor, is_keyed, is_welcome, scope_of, visitor_at
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.keys import SPEAK

BODY_TIMEOUT_S = 30.0
_JSON = "application/json"
_FILES = "multipart/form-data"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The second one is an answer in place of a WebSocket.
_ANSWERS = ("http.response.start", "websocket.http.response.start")


class Threshold:
    """Names a request, asks for its key, counts it, and reads its body within limits."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        """Stand in front of an app."""
        self._app = app
        self._house = house
        self._names = HostNames.of(house.settings.api)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        record = _Record(scope, request_id)

        async def named_send(message: Message) -> None:
            record.see(message)
            await send(message)

        try:
            try:
                self._admit(scope)
                receive = await self._body(scope, receive)
            except DuologueError as error:
                fault = fault_of(error)
                self._house.metrics.refused(fault.code)
                await _refuse(fault, scope, receive, named_send)
                return
            await self._app(scope, receive, named_send)
        finally:
            record.log()

    def _admit(self, scope: Scope) -> None:
        scope["state"]["visitor"] = Visitor(scope["state"]["request_id"])
        if self._house.keys.is_empty:
            self._names.check(Headers(scope=scope).get("host", ""))
        path, method = scope["path"], scope.get("method", "WEBSOCKET")
        if method == "OPTIONS" or not is_keyed(path):
            return
        visitor = visitor_at(self._house.keys, HTTPConnection(scope), scope_of(path, method))
        scope["state"]["visitor"] = visitor
        if scope["type"] == "http":
            self._check_origin(scope)
        if method == "POST" or scope["type"] == "websocket":
            self._house.rates.take(visitor)

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        if scope["type"] != "http":
            return receive
        headers = Headers(scope=scope)
        limit = self._limit(scope, headers)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise BodyTooLargeError(f"the body has {declared} bytes; allowed: {limit}")
        try:
            messages = await within(_read(receive, limit), BODY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise BodyTooLargeError(f"the body did not come in {BODY_TIMEOUT_S:g} s") from None
        return _replay(messages, receive)

    def _check_origin(self, scope: Scope) -> None:
        """Browsers send all but JSON for any page without asking, but say whose page it is."""
        headers = Headers(scope=scope)
        is_unasked = scope["method"] == "POST" and _kind_of(headers) != _JSON
        if is_unasked and not is_welcome(headers, self._house.settings.api.cors):
            raise ForbiddenError("forms of other sites' pages are not taken")

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """Bytes that a body may have; files are taken only where there is room for them."""
        api = self._house.settings.api
        if _kind_of(headers) != _FILES or not is_keyed(scope["path"]):
            return min(api.max_json_size, api.max_request_size)
        if scope_of(scope["path"], scope["method"]) == SPEAK:
            self._house.admission.check()
        files = self._house.settings.storage.max_voice_file_size + api.max_json_size
        return min(files, api.max_request_size)


class _Record:
    """What the log says of a request: never its text, its query or its key."""

    def __init__(self, scope: Scope, request_id: str) -> None:
        self._what = f"{scope.get('method', 'WEBSOCKET')} {scope['path'][:200]!r}"
        self._request_id = request_id
        self._began_at = time.monotonic()
        self._status = 0

    def see(self, message: Message) -> None:
        if message["type"] in _ANSWERS:
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers["x-content-type-options"] = "nosniff"

    def log(self) -> None:
        took_s = time.monotonic() - self._began_at
        log_event(
            logging.DEBUG,
            self._what,
            request_id=self._request_id,
            status=self._status,
            took_s=took_s,
        )


async def _read(receive: Receive, limit: int) -> list[Message]:
    """The messages of a whole body, or of what came before the caller left."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLargeError(f"the body has more than {limit} bytes")
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed


async def _refuse(fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    response: Response = fault_response(fault)
    if fault.status == 413:
        # What is left of the body is not read: the connection cannot be used again.
        response.headers["connection"] = "close"
    await response(scope, receive, send)


def _kind_of(headers: Headers) -> str:
    """What a body claims to be, without its parameters; the case of the letters says nothing."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _request_id(headers: Headers) -> str:
    """The caller's own name of the request where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)
