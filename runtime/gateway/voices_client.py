# SPDX-License-Identifier: Apache-2.0
"""A client that knows the voices that callers added."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from duologue.client.types import AudioChunk, SpeechKwargs, Voice
from duologue.runtime.gateway.connection import ChunkStream, Client, ForwardingClient
from duologue.runtime.gateway.voices_desk import VoiceDesk

if TYPE_CHECKING:
    from typing_extensions import Unpack


class VoicesClient(ForwardingClient):
    """Speaks through another client, with codes in the place of names that only we know.

    Args:
        client: that makes the audio.
        desk: that knows the names.
    """

    def __init__(self, client: Client, desk: VoiceDesk) -> None:
        super().__init__(client)
        self._desk = desk

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script; an unknown name shows when the stream is entered."""
        voices = options.get("voices") or {}
        if not any(isinstance(voice, str) for voice in voices.values()):
            return super().stream(script, **options)
        return _NamedStream(self._client, self._desk, script, voices, options)

    async def close(self) -> None:
        """Close the connection and the voice store."""
        await super().close()
        await asyncio.to_thread(self._desk.close)


class _NamedStream:
    """A stream that begins when its voices have been found."""

    def __init__(
        self,
        client: Client,
        desk: VoiceDesk,
        script: str,
        voices: Mapping[int, Voice | str],
        options: SpeechKwargs,
    ) -> None:
        self._client = client
        self._desk = desk
        self._script = script
        self._voices = voices
        self._options = options
        self._stream: ChunkStream | None = None

    async def __anext__(self) -> AudioChunk:
        assert self._stream is not None
        return await self._stream.__anext__()

    async def __aenter__(self) -> _NamedStream:
        voices = await self._desk.resolve(self._voices)
        options: SpeechKwargs = {**self._options, "voices": voices}
        self._stream = self._client.stream(self._script, **options)
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)
