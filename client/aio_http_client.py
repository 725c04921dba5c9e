# SPDX-License-Identifier: Apache-2.0
"""The asyncio client of the gateway's HTTP: the verbs of the gRPC one."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from typing import TYPE_CHECKING

import httpx

from duologue.client.aio_http_stream import AsyncHttpSpeechStream
from duologue.client.base import DEFAULT_CHUNK_TIMEOUT_S, DEFAULT_TIMEOUT_S, AsyncSpeechClient
from duologue.client.errors import RequestError
from duologue.client.http_wire import (
    DEFAULT_URL,
    DIALOGUE_PATH,
    READY_PATH,
    build_body,
    is_loopback,
    read_url,
)
from duologue.client.types import SpeechKwargs, SpeechOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OK = 200


class AsyncHttpDialogueClient(AsyncSpeechClient):
    """Speaks scripts through a duologue gateway, over HTTP, without blocking the event loop.

    Any number of streams run at the same time, each on a connection of its own. The client
    belongs to the event loop in which it is first used. Usable with `async with`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        chunk_timeout_s: float = DEFAULT_CHUNK_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: "http://HOST:PORT" of the gateway, or "https://..." where TLS is spoken.
            api_key: sent with every request, if the gateway wants one.
            timeout_s: to connect, and for short questions, such as `is_ready`.
            chunk_timeout_s: the longest wait for the next chunk of a stream.
            tls: for https with certificates of one's own; None trusts the usual authorities.

        Raises:
            RequestError: the url is no such address, or the key cannot stand in a header.
        """
        super().__init__()
        base_url = read_url(url)
        self._timeout_s = timeout_s
        self._chunk_timeout_s = chunk_timeout_s
        self._streams: weakref.WeakSet[AsyncHttpSpeechStream] = weakref.WeakSet()
        try:
            self._http = httpx.AsyncClient(
                base_url=base_url,
                headers=_headers(api_key),
                # How long a stream may be silent is watched chunk by chunk.
                timeout=httpx.Timeout(timeout_s, read=None, pool=None),
                limits=httpx.Limits(max_connections=None),
                trust_env=not is_loopback(base_url),
                verify=tls or True,
            )
        except httpx.InvalidURL as error:
            raise RequestError(f"the server's address is {url!r}: {error}") from error

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> AsyncHttpSpeechStream:
        """See `SpeechClient`. Call it where an event loop runs.

        `max_ahead_s` counts from what the connection has taken, which itself holds some seconds.
        """
        body = build_body(script, SpeechOptions(**options))
        request = self._http.build_request(
            "POST", DIALOGUE_PATH, content=body, headers={"Content-Type": "application/json"}
        )
        stream = AsyncHttpSpeechStream(self._http, request, chunk_timeout_s=self._chunk_timeout_s)
        self._streams.add(stream)
        return stream

    async def is_ready(self) -> bool:
        """See `SpeechClient`."""
        try:
            answer = await self._http.get(READY_PATH, timeout=self._timeout_s)
        except httpx.HTTPError:
            return False
        return answer.status_code == _OK

    async def close(self) -> None:
        """See `SpeechClient`."""
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*(stream.wait_ended() for stream in streams))
        await self._http.aclose()


def _headers(api_key: str | None) -> dict[str, str]:
    # A packed answer would be held back until there is something to pack.
    headers = {"Accept-Encoding": "identity"}
    if api_key is not None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise RequestError("the API key holds characters that no header can carry")
        headers["Authorization"] = f"Bearer {api_key}"
    return headers
