# SPDX-License-Identifier: Apache-2.0
"""The gate in front of a Triton that is not there, and callers that take nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from live_gateway import wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

from duologue.client import DialogueClient, ServerUnavailableError
from duologue.client.request import build_request
from duologue.client.types import SpeechOptions
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings


class Endless(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Sends large responses until its caller leaves."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:  # noqa: N802
        context.add_callback(self.left.set)
        response = service_pb2.ModelStreamInferResponse()
        response.infer_response.raw_output_contents.append(bytes(200_000))
        while not self.left.is_set():
            yield response


@contextmanager
def gate_before(triton_url: str) -> Iterator[GatewayServer]:
    flags = {
        "api": {
            "port": 0,
            "stall_timeout": 0.5,
            "monitoring": {"enabled": False, "health_check_interval": 3600},
        },
        "grpc": {"host": "127.0.0.1", "port": 0},
    }
    settings = load_settings(flags=flags, environment={})
    with GatewayServer(settings, triton_url, grace_s=0) as server:
        yield server


def test_a_server_that_is_away_is_named_without_its_address() -> None:
    with gate_before("127.0.0.1:1") as gate, DialogueClient(gate.grpc_url or "") as client:
        for ask in (lambda: client.synthesize("[S1]Hi."), lambda: client.encode([0.0] * 16_000)):
            with pytest.raises(ServerUnavailableError) as caught:
                ask()
            assert "127.0.0.1:1:" not in str(caught.value)
            assert "the speech server is down" in str(caught.value)


def test_a_caller_that_takes_nothing_loses_its_place() -> None:
    endless = Endless()
    triton = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(endless, triton)
    url = f"127.0.0.1:{triton.add_insecure_port('127.0.0.1:0')}"
    triton.start()
    try:
        with gate_before(url) as gate, grpc.insecure_channel(gate.grpc_url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelStreamInfer(iter([build_request("[S1]Hi.", SpeechOptions())]))
            next(call)
            assert gate.house.admission.num_running == 1
            wait_for(lambda: gate.house.admission.num_running == 0)
            assert endless.left.wait(5)
            call.cancel()
    finally:
        triton.stop(None).wait()
