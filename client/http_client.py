# SPDX-License-Identifier: Apache-2.0
"""The sync client of the gateway's HTTP: the asyncio one in a thread of its own.

So there is one way over the wire, and a stream can be left at any moment, even while another
thread waits for its next chunk.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from duologue.client.aio_http_client import AsyncHttpDialogueClient
from duologue.client.aio_http_stream import AsyncHttpSpeechStream
from duologue.client.base import DEFAULT_CHUNK_TIMEOUT_S, DEFAULT_TIMEOUT_S, SpeechClient
from duologue.client.http_wire import DEFAULT_URL
from duologue.client.loop_thread import LoopThread
from duologue.client.stream import SpeechStream
from duologue.client.types import AudioChunk, SpeechKwargs

if TYPE_CHECKING:
    from typing_extensions import Unpack


class HttpSpeechStream(SpeechStream):
    """See `SpeechStream`."""

    def __init__(self, stream: AsyncHttpSpeechStream, thread: LoopThread) -> None:
        """Stand before a stream that lives in the thread."""
        super().__init__(stream.cancel)
        self._stream = stream
        self._thread = thread

    def _next_chunk(self) -> AudioChunk | None:
        return self._thread.run(_next(self._stream))


class HttpDialogueClient(SpeechClient):
    """Speaks scripts through a duologue gateway, over HTTP.

    Any number of streams run at the same time, each on a connection of its own; the client may
    be used from several threads. Usable as a context manager.
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
        """Name the server; nothing is sent yet. Arguments and errors: `AsyncHttpDialogueClient`."""
        super().__init__()
        self._client = AsyncHttpDialogueClient(
            url, api_key=api_key, timeout_s=timeout_s, chunk_timeout_s=chunk_timeout_s, tls=tls
        )
        self._thread = LoopThread("duologue-http")

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> HttpSpeechStream:
        """See `SpeechClient`, and `AsyncHttpDialogueClient` about `max_ahead_s`."""

        async def begin() -> AsyncHttpSpeechStream:
            return self._client.stream(script, **options)

        return HttpSpeechStream(self._thread.run(begin()), self._thread)

    def is_ready(self) -> bool:
        """See `SpeechClient`."""
        return self._thread.run(self._client.is_ready())

    def close(self) -> None:
        """See `SpeechClient`."""
        if not self._thread.is_closed:
            self._thread.run(self._client.close())
            self._thread.close()


async def _next(stream: AsyncHttpSpeechStream) -> AudioChunk | None:
    async for chunk in stream:
        return chunk
    return None
