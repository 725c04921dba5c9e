# SPDX-License-Identifier: Apache-2.0
"""The verbs of every client; how they reach the server is the matter of each one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

from duologue.client.aio_stream import AsyncSpeechStream
from duologue.client.stream import SpeechStream
from duologue.client.types import Speech, SpeechKwargs, join_chunks

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_CHUNK_TIMEOUT_S = 30.0

# One frame of a harmless script: its answer tells the sample rate where nothing else does.
_PROBE_SCRIPT = "[S1]a"


class SpeechClient(ABC):
    """Speaks scripts through a duologue server. Usable as a context manager."""

    def __init__(self) -> None:
        self._rate_hz: int | None = None

    @property
    def sample_rate_hz(self) -> int:
        """Of all audio of this server; asked once.

        Raises:
            ServerUnavailableError: nothing answers.
        """
        if self._rate_hz is None:
            self._rate_hz = self._find_rate()
        return self._rate_hz

    @abstractmethod
    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> SpeechStream:
        """Speak a script; the chunks come while the rest is still being made.

        Args:
            script: text in any notation that the server's script parser knows, such as
                "[S1]Hello.[S2]Hi.".
            **options: see `SpeechOptions`.

        Returns:
            The stream. Errors of the server show when it is iterated over.

        Raises:
            RequestError: an option cannot be sent.
        """

    def synthesize(self, script: str, **options: Unpack[SpeechKwargs]) -> Speech:
        """Speak a script and wait for the whole of it.

        Args:
            script: as in `stream`.
            **options: see `SpeechOptions`.

        Raises:
            DuologueError: as `SpeechStream.__next__`.
        """
        with self.stream(script, **options) as stream:
            return join_chunks(stream)

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; streams that still run are cancelled."""

    def _find_rate(self) -> int:
        return self.synthesize(_PROBE_SCRIPT, max_frames=1).sample_rate_hz

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncSpeechClient(ABC):
    """The same verbs without blocking the event loop. Usable with `async with`."""

    def __init__(self) -> None:
        self._rate_hz: int | None = None

    async def sample_rate_hz(self) -> int:
        """See `SpeechClient`."""
        if self._rate_hz is None:
            self._rate_hz = await self._find_rate()
        return self._rate_hz

    @abstractmethod
    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> AsyncSpeechStream:
        """See `SpeechClient`. Call it where an event loop runs."""

    async def synthesize(self, script: str, **options: Unpack[SpeechKwargs]) -> Speech:
        """See `SpeechClient`."""
        async with self.stream(script, **options) as stream:
            return join_chunks([chunk async for chunk in stream])

    @abstractmethod
    async def is_ready(self) -> bool:
        """See `SpeechClient`."""

    @abstractmethod
    async def close(self) -> None:
        """See `SpeechClient`."""

    async def _find_rate(self) -> int:
        speech = await self.synthesize(_PROBE_SCRIPT, max_frames=1)
        return speech.sample_rate_hz

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
