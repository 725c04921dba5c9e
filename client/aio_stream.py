# SPDX-License-Identifier: Apache-2.0
"""One stream of an asyncio client: an asynchronous iterable of chunks that can be cancelled."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from duologue.client.types import AudioChunk

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncSpeechStream(ABC):
    """Chunks of one dialogue, in order, as they come.

    Iterate over it once with `async for`. Leaving it early (`close`, the end of an
    `async with` block, cancellation of the task, garbage collection) cancels the request at
    the server.
    """

    def __init__(self, end_call: Callable[[], object]) -> None:
        """Begin.

        Args:
            end_call: cancels the request, as `SpeechStream` wants it.
        """
        self._is_cancelled = False
        self._is_closed = False
        self._end_call = weakref.finalize(self, end_call)
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

    @abstractmethod
    async def _next_chunk(self) -> AudioChunk | None:
        """Wait for a chunk; None after the last one. Raises as `__anext__`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
