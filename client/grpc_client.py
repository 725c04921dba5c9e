# SPDX-License-Identifier: Apache-2.0
"""The sync client of the streaming door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2_grpc

from duologue.client import rpc
from duologue.client.base import DEFAULT_CHUNK_TIMEOUT_S, DEFAULT_TIMEOUT_S, SpeechClient
from duologue.client.grpc_stream import GrpcSpeechStream
from duologue.client.request import build_ack, build_encoding, build_request, read_encoding
from duologue.client.types import AudioChunk, SpeechKwargs, SpeechOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DialogueClient(SpeechClient):
    """Speaks scripts through a duologue server, over gRPC.

    One client holds one connection, on which any number of streams run at the same time; it
    may be used from several threads. Usable as a context manager.
    """

    def __init__(
        self,
        url: str = rpc.DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        chunk_timeout_s: float = DEFAULT_CHUNK_TIMEOUT_S,
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: "host:port" of the server's gRPC door, with or without "grpc://".
            api_key: sent with every call, if the door wants one.
            timeout_s: for short questions, such as `is_ready`.
            chunk_timeout_s: the longest wait for the next chunk of a stream.

        Raises:
            RequestError: the url is no such address, or no metadata can carry the key.
        """
        super().__init__()
        self._address = rpc.split_scheme(url)
        self._metadata = rpc.key_metadata(api_key)
        self._timeout_s = timeout_s
        self._chunk_timeout_s = chunk_timeout_s
        options = rpc.channel_options(self._address)
        self._channel = grpc.insecure_channel(self._address, options=options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> GrpcSpeechStream:
        """See `SpeechClient`."""
        wanted = SpeechOptions(**options)
        call = self._stub.ModelStreamInfer(
            iter([build_request(script, wanted)]), metadata=self._metadata
        )
        return GrpcSpeechStream(
            call,
            self._address,
            chunk_timeout_s=self._chunk_timeout_s,
            acknowledge=None if wanted.max_ahead_s is None else self._acknowledge,
        )

    def encode(self, samples: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Reference audio as codes, for `Voice`.

        Args:
            samples: mono [N] at the input rate of the server's codec, 16 kHz for MOSS-TTSD's.

        Returns:
            Aligned codes [K, T].

        Raises:
            RequestError: shorter than one frame, or no finite numbers.
            ServerUnavailableError: nothing answers in time.
        """
        try:
            answer = self._stub.ModelInfer(
                build_encoding(samples), timeout=self._chunk_timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise rpc.refusal_from_rpc(error, self._address) from error
        return read_encoding(answer)

    def is_ready(self) -> bool:
        """See `SpeechClient`."""
        try:
            answer = self._stub.ModelReady(
                rpc.ready_request(), timeout=self._timeout_s, metadata=self._metadata
            )
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    def close(self) -> None:
        """See `SpeechClient`."""
        self._channel.close()

    def _acknowledge(self, chunk: AudioChunk) -> None:
        """Tell the server that a chunk was taken.

        The streaming model answers on streams only, so this is a short stream of its own. What
        it answers does not matter: the stream in question may have ended in the meantime.
        """
        ack = build_ack(chunk.stream_id, chunk.end_sample)
        call = self._stub.ModelStreamInfer(
            iter([ack]), timeout=self._timeout_s, metadata=self._metadata
        )
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            raise rpc.error_from_rpc(error, self._address) from error

    def _find_rate(self) -> int:
        """As the model's configuration has it, which the server may keep to itself."""
        try:
            answer = self._stub.ModelConfig(
                rpc.config_request(), timeout=self._timeout_s, metadata=self._metadata
            )
        except grpc.RpcError:
            return super()._find_rate()
        return rpc.rate_from_config(answer) or super()._find_rate()
