# SPDX-License-Identifier: Apache-2.0
"""The asyncio client of the streaming door: the verbs of the sync one."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2_grpc

from duologue.client import rpc
from duologue.client.aio_stream import AsyncSpeechStream
from duologue.client.request import build_ack, build_request
from duologue.client.types import AudioChunk, Speech, SpeechKwargs, SpeechOptions, join_chunks

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncDialogueClient:
    """Speaks scripts through a duologue server, without blocking the event loop.

    One client holds one connection, on which any number of streams run at the same time. It
    belongs to the event loop in which it is first used. Usable with `async with`.
    """

    def __init__(
        self,
        url: str = rpc.DEFAULT_URL,
        *,
        timeout_s: float = rpc.DEFAULT_TIMEOUT_S,
        chunk_timeout_s: float = rpc.DEFAULT_CHUNK_TIMEOUT_S,
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: "host:port" of the server's gRPC door, with or without "grpc://".
            timeout_s: for short questions, such as `is_ready`.
            chunk_timeout_s: the longest wait for the next chunk of a stream.

        Raises:
            RequestError: the url is no such address.
        """
        self._address = rpc.split_scheme(url)
        self._timeout_s = timeout_s
        self._chunk_timeout_s = chunk_timeout_s
        self._rate_hz: int | None = None
        self._channel: aio.Channel | None = None

    async def sample_rate_hz(self) -> int:
        """Of all audio of this server; asked once.

        Raises:
            ServerUnavailableError: nothing answers.
        """
        if self._rate_hz is None:
            self._rate_hz = await self._configured_rate() or await self._probed_rate()
        return self._rate_hz

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> AsyncSpeechStream:
        """Speak a script; the chunks come while the rest is still being made.

        Call it where an event loop runs.

        Args:
            script: text in any notation that the server's script parser knows, such as
                "[S1]Hello.[S2]Hi.".
            **options: see `SpeechOptions`.

        Returns:
            The stream. Errors of the server show when it is iterated over.

        Raises:
            RequestError: an option cannot be sent.
        """
        wanted = SpeechOptions(**options)
        call = self._stub().ModelStreamInfer(iter([build_request(script, wanted)]))
        return AsyncSpeechStream(
            call,
            self._address,
            chunk_timeout_s=self._chunk_timeout_s,
            acknowledge=None if wanted.max_ahead_s is None else self._acknowledge,
        )

    async def synthesize(self, script: str, **options: Unpack[SpeechKwargs]) -> Speech:
        """Speak a script and wait for the whole of it.

        Args:
            script: as in `stream`.
            **options: see `SpeechOptions`.

        Raises:
            DuologueError: as `AsyncSpeechStream.__anext__`.
        """
        async with self.stream(script, **options) as stream:
            return join_chunks([chunk async for chunk in stream])

    async def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""
        try:
            answer = await self._stub().ModelReady(rpc.ready_request(), timeout=self._timeout_s)
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    async def close(self) -> None:
        """Close the connection; streams that still run are cancelled."""
        if self._channel is not None:
            await self._channel.close()

    def _stub(self) -> Any:
        """The calls of the server; the channel is made in the event loop that will use it."""
        if self._channel is None:
            options = rpc.channel_options(self._address)
            self._channel = aio.insecure_channel(self._address, options=options)
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def _acknowledge(self, chunk: AudioChunk) -> None:
        """Tell the server that a chunk was taken; see the sync client."""
        ack = build_ack(chunk.stream_id, chunk.end_sample)
        call = self._stub().ModelStreamInfer(iter([ack]), timeout=self._timeout_s)
        try:
            async for _ in call:
                pass
        except grpc.RpcError as error:
            raise rpc.error_from_rpc(error, self._address) from error

    async def _configured_rate(self) -> int | None:
        try:
            answer = await self._stub().ModelConfig(rpc.config_request(), timeout=self._timeout_s)
        except grpc.RpcError:
            return None  # the server may keep its configuration to itself
        return rpc.rate_from_config(answer)

    async def _probed_rate(self) -> int:
        speech = await self.synthesize(rpc.PROBE_SCRIPT, max_frames=1)
        return speech.sample_rate_hz

    async def __aenter__(self) -> AsyncDialogueClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
