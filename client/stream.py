# SPDX-License-Identifier: Apache-2.0
"""One stream of a sync client: an iterable of chunks that can be cancelled."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from duologue.client.types import AudioChunk

if TYPE_CHECKING:
    from typing_extensions import Self


class SpeechStream(ABC):
    """Chunks of one dialogue, in order, as they come.

    Iterate over it once. Leaving it early (`close`, the end of a `with` block, garbage
    collection, the interpreter's exit) cancels the request at the server.
    """

    def __init__(self, end_call: Callable[[], object]) -> None:
        """Begin.

        Args:
            end_call: cancels the request; does nothing once the request is over. It must not
                know the stream: one that nobody holds is collected, and ends its call by that.
        """
        self._is_cancelled = False
        self._is_closed = False
        self._end_call = weakref.finalize(self, end_call)

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

    @abstractmethod
    def _next_chunk(self) -> AudioChunk | None:
        """Wait for a chunk; None after the last one. Raises as `__next__`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
