# SPDX-License-Identifier: Apache-2.0
"""A stream over gRPC, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from duologue.client.aio_stream import AsyncSpeechStream
from duologue.client.errors import CancelledError, DuologueError, StreamTimeoutError
from duologue.client.patience import within
from duologue.client.response import ResponseReader
from duologue.client.rpc import END_TIMEOUT_S, error_from_rpc
from duologue.client.types import AudioChunk


class AsyncGrpcSpeechStream(AsyncSpeechStream):
    """See `AsyncSpeechStream`."""

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
        super().__init__(call.cancel)
        self._call = call
        self._address = address
        self._chunk_timeout_s = chunk_timeout_s
        self._acknowledge = acknowledge
        self._reader = ResponseReader()

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
            return await within(self._call.read(), timeout_s)
        except asyncio.TimeoutError:
            raise StreamTimeoutError.after(self._address, timeout_s) from None
        except grpc.RpcError as error:
            raise error_from_rpc(error, self._address) from error
        except asyncio.CancelledError:
            # gRPC says so for a call that was cancelled, too; only the task's own may pass.
            if self._is_cancelled:
                raise CancelledError("the stream was cancelled") from None
            raise
