"""The gate in front of a real tritonserver: keys, limits, and what does not go through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from live_gateway import wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

from duologue.client import AccessError, AsyncDialogueClient, DialogueClient, contract
from duologue.client.request import build_ack, build_encoding, build_request
from duologue.client.types import SpeechOptions
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.keys import digest_of

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet."
LONG = "[S1]" + "And so on. " * 80
KEY = (("authorization", "Bearer sk-alice"),)


@pytest.fixture(scope="module")
def gate(door: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    path = tmp_path_factory.mktemp("keys") / "keys"
    lines = ("alice {} scopes=speak streams=2", "bob {} scopes=voices")
    names = ("sk-alice", "sk-bob")
    pairs = zip(lines, names, strict=True)
    path.write_text("\n".join(line.format(digest_of(key).hex()) for line, key in pairs))
    flags = {
        "api": {"port": 0, "monitoring": {"enabled": False, "health_check_interval": 3600}},
        "grpc": {"host": "127.0.0.1", "port": 0},
        "auth": {"keys_file": path},
    }
    settings = load_settings(flags=flags, environment={})
    with GatewayServer(settings, door.url, grace_s=2) as server:
        yield server


@contextmanager
def stub(gate: GatewayServer) -> Iterator[Any]:
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(gate.grpc_url, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request_of(script: str, **options: Any) -> Any:
    return build_request(script, SpeechOptions(**options))


def pcm_of(call: Any) -> bytes:
    audio = b""
    for response in call:
        assert not response.error_message, response.error_message
        answer = response.infer_response
        for output, data in zip(answer.outputs, answer.raw_output_contents, strict=True):
            if output.name == contract.PCM.name:
                audio += data
    return audio


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        list(call) if hasattr(call, "__next__") else call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_with_a_key_the_audio_is_that_of_the_server_itself(door: Any, gate: GatewayServer) -> None:
    with DialogueClient(door.url) as client:
        expected = client.synthesize(SCRIPT, seed=11, max_frames=40)
    with stub(gate) as triton:
        request = request_of(SCRIPT, seed=11, max_frames=40)
        heard = pcm_of(triton.ModelStreamInfer(iter([request]), metadata=KEY))
        np.testing.assert_array_equal(np.frombuffer(heard, "<i2"), expected.samples)
        ready = service_pb2.ModelReadyRequest(name=contract.STREAMING_MODEL)
        assert triton.ModelReady(ready, metadata=KEY).ready
        encoding = build_encoding(np.zeros(16_000, dtype=np.float32))
        assert triton.ModelInfer(encoding, metadata=KEY).outputs[0].name == "CODES"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer sk-eve"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("x-api-key", "sk-bob"),), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_without_the_right_key_nothing_is_done(
    door: Any, gate: GatewayServer, metadata: Any, code: grpc.StatusCode
) -> None:
    before = door.metrics()
    with stub(gate) as triton:
        request = request_of(SCRIPT)
        assert code_of(triton.ModelStreamInfer(iter([request]), metadata=metadata)) == code
        encoding = build_encoding(np.zeros(16_000, dtype=np.float32))
        assert code_of(lambda: triton.ModelInfer(encoding, metadata=metadata)) == code
    assert door.metrics()["duologue_audio_seconds_total"] == before["duologue_audio_seconds_total"]


def test_other_protocols_and_models_do_not_go_through(gate: GatewayServer) -> None:
    with stub(gate) as triton:
        for method, request in (
            (triton.ModelConfig, service_pb2.ModelConfigRequest(name="dialogue_tts")),
            (triton.RepositoryIndex, service_pb2.RepositoryIndexRequest()),
            (triton.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
            (triton.LogSettings, service_pb2.LogSettingsRequest()),
            (triton.TraceSetting, service_pb2.TraceSettingRequest()),
        ):
            code = code_of(lambda m=method, r=request: m(r, metadata=KEY))
            assert code == grpc.StatusCode.UNIMPLEMENTED
        other = request_of(SCRIPT)
        other.model_name = contract.DECODER_MODEL
        call = triton.ModelStreamInfer(iter([other]), metadata=KEY)
        assert code_of(call) == grpc.StatusCode.INVALID_ARGUMENT
        twice = triton.ModelStreamInfer(iter([request_of(LONG)] * 2), metadata=KEY)
        assert code_of(twice) == grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_that_crashes_a_server_stays_outside(door: Any, gate: GatewayServer) -> None:
    with stub(gate) as triton:
        hostile = (*KEY, ("triton_grpc_error", "true"))
        call = triton.ModelStreamInfer(iter([request_of("[S9]Hi.")]), metadata=hostile)
        assert "error" in next(call).error_message.lower()
        audio = pcm_of(
            triton.ModelStreamInfer(iter([request_of(SCRIPT, max_frames=20)]), metadata=KEY)
        )
    assert audio
    door.wait_until_idle()


def test_a_key_has_its_streams_and_leaving_frees_them(door: Any, gate: GatewayServer) -> None:
    with stub(gate) as triton:
        calls = [
            triton.ModelStreamInfer(iter([request_of(LONG, max_ahead_s=1.0)]), metadata=KEY)
            for _ in range(2)
        ]
        for call in calls:
            next(call)
        third = triton.ModelStreamInfer(iter([request_of(SCRIPT)]), metadata=KEY)
        assert code_of(third) == grpc.StatusCode.RESOURCE_EXHAUSTED
        # An acknowledgement is no stream of its own.
        list(triton.ModelStreamInfer(iter([build_ack("nobody", 1)]), metadata=KEY))
        for call in calls:
            call.cancel()
    door.wait_until_idle()
    wait_for(lambda: gate.house.admission.num_running == 0)


@pytest.mark.parametrize("client_class", [DialogueClient, AsyncDialogueClient])
def test_our_clients_show_their_key(gate: GatewayServer, client_class: Any) -> None:
    async def ask(key: str | None) -> tuple[bool, int]:
        client = client_class(gate.grpc_url, api_key=key)
        try:
            is_ready = client.is_ready()
            speech = client.synthesize(SCRIPT, seed=11, max_frames=20, max_ahead_s=5.0)
            if client_class is AsyncDialogueClient:
                is_ready, speech = await is_ready, await speech
            return is_ready, len(speech.samples)
        finally:
            closing = client.close()
            if closing is not None:
                await closing

    is_ready, num_samples = asyncio.run(ask("sk-alice"))
    assert is_ready
    assert num_samples > 0
    for key, words in ((None, "needed"), ("sk-eve", "unknown"), ("sk-bob", "scope")):
        with pytest.raises(AccessError, match=words):
            asyncio.run(ask(key))
