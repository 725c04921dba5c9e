# SPDX-License-Identifier: Apache-2.0
"""The sync client of the streaming door."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2_grpc

from duologue.client import rpc
from duologue.client.request import build_ack, build_request
from duologue.client.stream import SpeechStream
from duologue.client.types import AudioChunk, Speech, SpeechKwargs, SpeechOptions, join_chunks

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DialogueClient:
    """Speaks scripts through a duologue server.

    One client holds one connection, on which any number of streams run at the same time; it
    may be used from several threads. Usable as a context manager.
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
        options = rpc.channel_options(self._address)
        self._channel = grpc.insecure_channel(self._address, options=options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    @property
    def sample_rate_hz(self) -> int:
        """Of all audio of this server; asked once.

        Raises:
            ServerUnavailableError: nothing answers.
        """
        if self._rate_hz is None:
            self._rate_hz = self._configured_rate() or self._probed_rate()
        return self._rate_hz

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
        wanted = SpeechOptions(**options)
        call = self._stub.ModelStreamInfer(iter([build_request(script, wanted)]))
        return SpeechStream(
            call,
            self._address,
            chunk_timeout_s=self._chunk_timeout_s,
            acknowledge=None if wanted.max_ahead_s is None else self._acknowledge,
        )

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

    def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""
        try:
            answer = self._stub.ModelReady(rpc.ready_request(), timeout=self._timeout_s)
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    def close(self) -> None:
        """Close the connection; streams that still run are cancelled."""
        self._channel.close()

    def _acknowledge(self, chunk: AudioChunk) -> None:
        """Tell the server that a chunk was taken.

        The streaming model answers on streams only, so this is a short stream of its own. What
        it answers does not matter: the stream in question may have ended in the meantime.
        """
        ack = build_ack(chunk.stream_id, chunk.end_sample)
        call = self._stub.ModelStreamInfer(iter([ack]), timeout=self._timeout_s)
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            raise rpc.error_from_rpc(error, self._address) from error

    def _configured_rate(self) -> int | None:
        try:
            answer = self._stub.ModelConfig(rpc.config_request(), timeout=self._timeout_s)
        except grpc.RpcError:
            return None  # the server may keep its configuration to itself
        return rpc.rate_from_config(answer)

    def _probed_rate(self) -> int:
        return self.synthesize(rpc.PROBE_SCRIPT, max_frames=1).sample_rate_hz

    def __enter__(self) -> DialogueClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
