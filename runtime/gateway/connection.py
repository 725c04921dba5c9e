# SPDX-License-Identifier: Apache-2.0
"""The connection to the model, as the gateway needs it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from duologue.client.types import AudioChunk, SpeechKwargs

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ChunkStream(AbstractAsyncContextManager["ChunkStream"], Protocol):
    """A stream of the client; leaving it early cancels the request."""

    async def __anext__(self) -> AudioChunk: ...


class Client(Protocol):
    """A connection to the model, such as `duologue.client.AsyncDialogueClient`."""

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script."""
        ...

    async def encode(self, samples: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Reference audio, mono at the codec's input rate, as codes [K, T]."""
        ...

    async def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class ForwardingClient:
    """A client in front of another one: what it does not do itself, the other one does."""

    def __init__(self, client: Client) -> None:
        """Stand in front of a client, which is closed with this one."""
        self._client = client

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """See `Client`."""
        return self._client.stream(script, **options)

    async def encode(self, samples: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """See `Client`."""
        return await self._client.encode(samples)

    async def is_ready(self) -> bool:
        """See `Client`."""
        return await self._client.is_ready()

    async def close(self) -> None:
        """See `Client`."""
        await self._client.close()
