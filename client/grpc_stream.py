# SPDX-License-Identifier: Apache-2.0
"""A stream over gRPC.

gRPC's own iterator blocks without a limit, so a thread per stream reads it into a queue, and
the caller waits at the queue for as long as the watchdog allows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import grpc

from duologue.client.errors import CancelledError, DuologueError, StreamTimeoutError
from duologue.client.response import ResponseReader
from duologue.client.rpc import END_TIMEOUT_S, error_from_rpc
from duologue.client.stream import SpeechStream
from duologue.client.types import AudioChunk

_END = object()


class GrpcSpeechStream(SpeechStream):
    """See `SpeechStream`."""

    def __init__(
        self,
        call: Any,
        address: str,
        *,
        chunk_timeout_s: float,
        acknowledge: Callable[[AudioChunk], None] | None = None,
    ) -> None:
        """Take over a started call.

        Args:
            call: a gRPC stream of responses, with `cancel`.
            address: of the server, for messages.
            chunk_timeout_s: the longest wait for the next chunk.
            acknowledge: told of each chunk that the caller takes, but the last.
        """
        super().__init__(call.cancel)
        self._address = address
        self._chunk_timeout_s = chunk_timeout_s
        self._acknowledge = acknowledge
        self._reader = ResponseReader()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The thread knows the call and the queue, not the stream, which can so be collected.
        threading.Thread(
            target=_forward, args=(call, self._inbox), name="duologue-stream", daemon=True
        ).start()

    def _next_chunk(self) -> AudioChunk | None:
        if self._reader.is_complete:
            self._await_end()
            return None
        chunk = None
        while chunk is None:
            response = self._take(self._chunk_timeout_s)
            if response is _END:
                raise self._reader.cut_short()
            try:
                chunk = self._reader.read(response)
            except DuologueError:
                # Triton 2.51 keeps a request for ever whose cancel overtakes its error.
                self._await_end()
                raise
        if self._acknowledge is not None and not chunk.is_last:
            self._acknowledge(chunk)
        return chunk

    def _await_end(self) -> None:
        """Let the server close the call: a cancel that overtakes its end would look like one."""
        try:
            while self._take(END_TIMEOUT_S) is not _END:
                pass
        except DuologueError:
            pass  # the audio is complete, however the call ends

    def _take(self, timeout_s: float) -> Any:
        """One response or `_END`, within the time allowed."""
        if self._is_cancelled:
            raise CancelledError("the stream was cancelled")
        try:
            item = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            raise StreamTimeoutError.after(self._address, timeout_s) from None
        if isinstance(item, grpc.RpcError):
            raise error_from_rpc(item, self._address)
        return item


def _forward(call: Any, inbox: queue.SimpleQueue[Any]) -> None:
    """Put every response into the queue, then the error or `_END`."""
    try:
        for response in call:
            inbox.put(response)
    except grpc.RpcError as error:
        inbox.put(error)
    else:
        inbox.put(_END)
