# SPDX-License-Identifier: Apache-2.0
"""One stream of the sync client: an iterable of chunks that can be cancelled.

gRPC's own iterator blocks without a limit, so a thread per stream reads it into a queue, and
the caller waits at the queue for as long as the watchdog allows.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import grpc

from duologue.client.errors import CancelledError, DuologueError, StreamTimeoutError
from duologue.client.response import ResponseReader
from duologue.client.rpc import END_TIMEOUT_S, error_from_rpc
from duologue.client.types import AudioChunk

_END = object()


class SpeechStream:
    """Chunks of one dialogue, in order, as they come.

    Iterate over it once. Leaving it early (`close`, the end of a `with` block, garbage
    collection, the interpreter's exit) cancels the request at the server.
    """

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
        self._address = address
        self._chunk_timeout_s = chunk_timeout_s
        self._acknowledge = acknowledge
        self._reader = ResponseReader()
        self._is_cancelled = False
        self._is_closed = False
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The thread knows the call and the queue, not the stream: a stream that nobody holds
        # is collected, and its finalizer cancels the call. Once a call is over, that does nothing.
        self._end_call = weakref.finalize(self, call.cancel)
        threading.Thread(
            target=_forward, args=(call, self._inbox), name="duologue-stream", daemon=True
        ).start()

    def __iter__(self) -> Iterator[AudioChunk]:
        return self

    def __next__(self) -> AudioChunk:
        """The next chunk.

        Raises:
            StopIteration: the last chunk has been taken, or the stream was closed.
            CancelledError: `cancel` was called before the last chunk came.
            StreamTimeoutError: no chunk came in time; the request is cancelled.
            ServerUnavailableError: the connection broke.
            DuologueError: what the server says went wrong.
        """
        if self._is_closed:
            raise StopIteration
        try:
            chunk = self._next_chunk()
        except BaseException:  # KeyboardInterrupt too: the server must not go on for nobody
            self.close()
            raise
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def cancel(self) -> None:
        """Tell the server to stop; the iteration then ends with `CancelledError`."""
        self._is_cancelled = True
        self._end_call()

    def close(self) -> None:
        """End the stream; cancels the request unless its last chunk has been taken."""
        self._is_closed = True
        self._end_call()

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
            raise StreamTimeoutError(
                f"{self._address} sent nothing for {timeout_s:g} s; the request is cancelled"
            ) from None
        if isinstance(item, grpc.RpcError):
            raise error_from_rpc(item, self._address)
        return item

    def __enter__(self) -> SpeechStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _forward(call: Any, inbox: queue.SimpleQueue[Any]) -> None:
    """Put every response into the queue, then the error or `_END`."""
    try:
        for response in call:
            inbox.put(response)
    except grpc.RpcError as error:
        inbox.put(error)
    else:
        inbox.put(_END)
