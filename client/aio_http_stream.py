# SPDX-License-Identifier: Apache-2.0
"""A stream over HTTP, for asyncio.

A task of its own sends the request and reads the answer, so that leaving the stream at any
moment is one thing: cancelling that task, which closes the connection. It reads one chunk ahead
of the caller and no further, so that a caller who is slow holds the server back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType

import httpx

from duologue.client.aio_stream import AsyncSpeechStream
from duologue.client.errors import (
    CancelledError,
    DuologueError,
    ServerUnavailableError,
    StreamTimeoutError,
)
from duologue.client.http_errors import error_from_answer
from duologue.client.http_wire import EventReader
from duologue.client.patience import within
from duologue.client.types import AudioChunk

# How long to wait for the end of an answer whose last chunk has come: its connection can then
# be used again.
END_TIMEOUT_S = 1.0

_OK = 200

# A chunk, what is to be raised instead of one, or None behind the last.
_Item = AudioChunk | Exception | None


class AsyncHttpSpeechStream(AsyncSpeechStream):
    """See `AsyncSpeechStream`."""

    def __init__(
        self, client: httpx.AsyncClient, request: httpx.Request, *, chunk_timeout_s: float
    ) -> None:
        """Send a request, in the event loop that runs.

        Args:
            client: holds the connections.
            request: not sent yet.
            chunk_timeout_s: the longest wait for the next chunk.
        """
        self._address = str(client.base_url).rstrip("/")
        self._chunk_timeout_s = chunk_timeout_s
        self._inbox: asyncio.Queue[_Item] = asyncio.Queue()
        self._wanted = asyncio.Semaphore(0)
        self._is_complete = False
        loop = asyncio.get_running_loop()
        # The task knows the queue, not the stream, which can so be collected.
        chunks = _read(client, request, self._address)
        self._task = loop.create_task(_pump(chunks, self._wanted, self._inbox))
        super().__init__(functools.partial(_cancel, loop, self._task))

    async def _next_chunk(self) -> AudioChunk | None:
        if self._is_complete:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self._inbox.get(), END_TIMEOUT_S)
            return None
        if self._is_cancelled:
            raise CancelledError("the stream was cancelled")
        self._wanted.release()
        try:
            item = await within(self._inbox.get(), self._chunk_timeout_s)
        except asyncio.TimeoutError:
            raise StreamTimeoutError.after(self._address, self._chunk_timeout_s) from None
        if item is None:
            raise CancelledError("the stream was cancelled")
        if isinstance(item, Exception):
            raise item
        self._is_complete = item.is_last
        return item

    async def wait_ended(self) -> None:
        """Wait until the connection is free or closed, once the stream is over."""
        await asyncio.wait({self._task})

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        # The event loop may end with this block, and the server must still hear of it.
        await self.wait_ended()


def error_from_httpx(error: httpx.HTTPError, address: str) -> DuologueError:
    """Turn the failure of a connection into a type of ours; not raised."""
    return ServerUnavailableError(f"no answer from {address}: {str(error) or type(error).__name__}")


async def _read(
    client: httpx.AsyncClient, request: httpx.Request, address: str
) -> AsyncGenerator[AudioChunk, None]:
    """The chunks of one answer."""
    try:
        response = await client.send(request, stream=True)
        try:
            if response.status_code != _OK:
                body, retry_after = await response.aread(), response.headers.get("retry-after")
                raise error_from_answer(response.status_code, body, address, retry_after)
            reader = EventReader(response.headers, address)
            async for line in _lines(response):
                chunk = reader.read(line)
                if chunk is not None:
                    yield chunk
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        raise error_from_httpx(error, address) from error
    if not reader.is_complete:
        raise reader.cut_short()


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for data in response.aiter_raw():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _pump(
    chunks: AsyncGenerator[AudioChunk, None],
    wanted: asyncio.Semaphore,
    inbox: asyncio.Queue[_Item],
) -> None:
    """Put each chunk that is wanted into the queue, then the error, if any, and None."""
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                await wanted.acquire()
                inbox.put_nowait(chunk)
    except Exception as error:  # raised where the chunk is waited for
        inbox.put_nowait(error)
    finally:
        inbox.put_nowait(None)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Cancel a task from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
        loop.call_soon_threadsafe(task.cancel)
