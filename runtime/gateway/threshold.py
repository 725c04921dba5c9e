# SPDX-License-Identifier: Apache-2.0
"""What happens to every request before a route sees it: its names, its key, its size.

Small bodies are read here; a file is read by its route, in pieces and within the same limits, so
that none is ever in memory as a whole. Plain ASGI: nothing here holds an answer back.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import ExitStack

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duologue.client.errors import DuologueError
from duologue.runtime.gateway.answer import fault_response
from duologue.runtime.gateway.bodies import Pieces, check_declared, read_whole
from duologue.runtime.gateway.faults import ForbiddenError, fault_of
from duologue.runtime.gateway.host_names import HostNames
from duologue.runtime.gateway.house import House
from duologue.runtime.gateway.keys import (
    Visitor,
    is_keyed,
    is_welcome,
    scope_of,
    takes_files,
    visitor_at,
)
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.keys import SPEAK

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
            if isinstance(receive, Pieces):
                await receive.drain()
            await send(message)

        with ExitStack() as places:
            places.callback(record.log)
            try:
                await self._admit(scope)
                receive = await self._body(scope, receive, places)
            except DuologueError as error:
                fault = fault_of(error)
                self._house.metrics.refused(fault.code)
                await fault_response(fault)(scope, receive, named_send)
                return
            await self._app(scope, receive, named_send)

    async def _admit(self, scope: Scope) -> None:
        scope["state"]["visitor"] = Visitor(scope["state"]["request_id"])
        if self._house.keys.is_empty:
            self._names.check(Headers(scope=scope).get("host", ""))
        path, method = scope["path"], scope.get("method", "WEBSOCKET")
        if method == "OPTIONS" or not is_keyed(path):
            return
        wanted = scope_of(path, method)
        visitor = await visitor_at(self._house.keys, HTTPConnection(scope), wanted)
        scope["state"]["visitor"] = visitor
        if scope["type"] == "http":
            self._check_origin(scope)
        if method == "POST" or scope["type"] == "websocket":
            self._house.rates.take(visitor)

    async def _body(self, scope: Scope, receive: Receive, places: ExitStack) -> Receive:
        """What the route reads: files as they come, and only with a place for them."""
        if scope["type"] != "http":
            return receive
        api, headers = self._house.settings.api, Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not (_kind_of(headers) == _FILES and takes_files(scope["path"], scope["method"])):
            limit: int = min(api.max_json_size, api.max_request_size)
            check_declared(length, limit)
            return await read_whole(receive, limit)
        files = self._house.settings.storage.max_voice_file_size + api.max_json_size
        limit = min(files, api.max_request_size)
        check_declared(length, limit)
        if scope_of(scope["path"], scope["method"]) == SPEAK:
            self._house.admission.check()
        place = self._house.uploads.enter(scope["state"]["visitor"])
        scope["state"]["upload"] = places.enter_context(place)
        return Pieces(receive, limit)

    def _check_origin(self, scope: Scope) -> None:
        """Browsers send all but JSON for any page without asking, but say whose page it is."""
        headers = Headers(scope=scope)
        is_unasked = scope["method"] == "POST" and _kind_of(headers) != _JSON
        if is_unasked and not is_welcome(headers, self._house.settings.api.cors):
            raise ForbiddenError("forms of other sites' pages are not taken")


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


def _kind_of(headers: Headers) -> str:
    """What a body claims to be, without its parameters; the case of the letters says nothing."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _request_id(headers: Headers) -> str:
    """The caller's own name of the request where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)
