# SPDX-License-Identifier: Apache-2.0
"""One stream of the asyncio client: an asynchronous iterable of chunks that can be cancelled."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import grpc
from grpc import aio

from duologue.client.errors import CancelledError, DuologueError, StreamTimeoutError
from duologue.client.response import ResponseReader
from duologue.client.rpc import END_TIMEOUT_S, error_from_rpc
from duologue.client.types import AudioChunk


class AsyncSpeechStream:
    """Chunks of one dialogue, in order, as they come.

    Iterate over it once with `async for`. Leaving it early (`close`, the end of an
    `async with` block, cancellation of the task, garbage collection) cancels the request at
    the server.
    """

    def __init__(
        self,
        call: Any,
        address: str,
        *,
        chunk_timeout_s: float,
        acknowledge: Callable[[AudioChunk], Awaitable[None]] | None = None,
    ) -> None:
        """Take over a started call.

        Args:
            call: a `grpc.aio` stream of responses.
            address: of the server, for messages.
            chunk_timeout_s: the longest wait for the next chunk.
            acknowledge: told of each chunk that the caller takes, but the last.
        """
        self._call = call
        self._address = address
        self._chunk_timeout_s = chunk_timeout_s
        self._acknowledge = acknowledge
        self._reader = ResponseReader()
        self._is_cancelled = False
        self._is_closed = False
        # Once a call is over, its cancel does nothing.
        self._end_call = weakref.finalize(self, call.cancel)
        self._end_call.atexit = False  # the event loop is gone by then

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk.

        Raises:
            StopAsyncIteration: the last chunk has been taken, or the stream was closed.
            CancelledError: `cancel` was called before the last chunk came.
            StreamTimeoutError: no chunk came in time; the request is cancelled.
            ServerUnavailableError: the connection broke.
            DuologueError: what the server says went wrong.
        """
        if self._is_closed:
            raise StopAsyncIteration
        try:
            chunk = await self._next_chunk()
        except BaseException:  # asyncio.CancelledError too: nobody takes what would follow
            self.close()
            raise
        if chunk is None:
            self.close()
            raise StopAsyncIteration
        return chunk

    def cancel(self) -> None:
        """Tell the server to stop; the iteration then ends with `CancelledError`."""
        self._is_cancelled = True
        self._end_call()

    def close(self) -> None:
        """End the stream; cancels the request unless its last chunk has been taken."""
        self._is_closed = True
        self._end_call()

    async def _next_chunk(self) -> AudioChunk | None:
        if self._reader.is_complete:
            await self._await_end()
            return None
        chunk = None
        while chunk is None:
            response = await self._take(self._chunk_timeout_s)
            if response is aio.EOF:
                raise self._reader.cut_short()
            try:
                chunk = self._reader.read(response)
            except DuologueError:
                # Triton 2.51 keeps a request for ever whose cancel overtakes its error.
                await self._await_end()
                raise
        if self._acknowledge is not None and not chunk.is_last:
            await self._acknowledge(chunk)
        return chunk

    async def _await_end(self) -> None:
        """Let the server close the call: a cancel that overtakes its end would look like one."""
        try:
            while await self._take(END_TIMEOUT_S) is not aio.EOF:
                pass
        except DuologueError:
            pass  # the audio is complete, however the call ends

    async def _take(self, timeout_s: float) -> Any:
        """One response or `aio.EOF`, within the time allowed."""
        try:
            return await asyncio.wait_for(self._call.read(), timeout_s)
        except asyncio.TimeoutError:
            raise StreamTimeoutError(
                f"{self._address} sent nothing for {timeout_s:g} s; the request is cancelled"
            ) from None
        except grpc.RpcError as error:
            raise error_from_rpc(error, self._address) from error
        except asyncio.CancelledError:
            # gRPC says so for a call that was cancelled, too; only the task's own may pass.
            if self._is_cancelled:
                raise CancelledError("the stream was cancelled") from None
            raise

    async def __aenter__(self) -> AsyncSpeechStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
