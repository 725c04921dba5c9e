"""F01, F02 without a supervisor: the gateway's watchdog, and the way around a dead codec."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Judge
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

from duologue.client import DialogueClient
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.supervisor.embedded import EmbeddedServer

GAP_S = 2.0
LONG = "[S1]" + "And so on. " * 80


class HurtGateway(Gateway):
    """A gateway and the process of the streaming model behind it."""

    stub: int


@pytest.fixture
def gateway(needs_triton: None, tmp_path: Path) -> Iterator[HurtGateway]:
    api = {
        "port": 0,
        "gap_timeout": GAP_S,
        "chunk_timeout": 3,
        "max_ahead": 1,
        "monitoring": {"metrics_port": 0, "health_check_interval": 3600},
    }
    with EmbeddedServer("noise", log_path=tmp_path / "triton.log", exit_timeout_s=2) as triton:
        settings = load_settings(flags={"api": api}, environment={})
        with GatewayServer(settings, triton.grpc_url, grace_s=1) as server:
            gateway = HurtGateway(server, ScriptedClient())
            (gateway.stub,) = (p for p, name in triton.stubs.items() if name == "dialogue_tts")
            wait_for(lambda: gateway.call("/readyz").status == 200, 30)
            yield gateway


def test_f01_without_a_supervisor_the_watchdog_ends_the_stream(
    gateway: HurtGateway, judge: Judge
) -> None:
    body: dict[str, Any] = {"input": LONG, "stream_format": "ndjson", "response_format": "pcm"}
    with gateway.open("/v1/audio/dialogue", body) as answer:
        assert b"speech.audio.delta" in answer.readline()
        os.kill(gateway.stub, signal.SIGKILL)
        killed_at = time.monotonic()
        last = answer.read().splitlines()[-1]
    took_s = time.monotonic() - killed_at
    holds = b"speech.audio.error" in last and took_s <= 5
    judge("F01", "no supervisor: watchdog <= 5 s", f"{took_s:.1f} s", holds)

    wait_for(lambda: gateway.call("/readyz").status == 503)
    unready_s = time.monotonic() - killed_at - took_s
    judge("F01", "no supervisor: not ready <= 5 s", f"{unready_s:.1f} s", unready_s <= 5)
    assert gateway.call("/livez").status == 200
    assert gateway.speak("Hi.").status in (500, 503, 504)
    assert gateway.server.house.admission.num_running == 0


def test_f02_without_a_supervisor_streams_outlive_their_codec(
    needs_triton: None, judge: Judge, tmp_path: Path
) -> None:
    with EmbeddedServer("noise", log_path=tmp_path / "triton.log", exit_timeout_s=2) as triton:
        stubs = {model: pid for pid, model in triton.stubs.items()}

        def heard(seed: int) -> bytes:
            with DialogueClient(triton.grpc_url, chunk_timeout_s=60) as client:
                return client.synthesize(LONG, seed=seed, max_frames=150).samples.tobytes()

        alone = [heard(seed) for seed in range(2)]
        with ThreadPoolExecutor(8) as pool:
            streams = [pool.submit(heard, i % 2) for i in range(8)]
            time.sleep(0.5)  # calls to the codec are on their way
            os.kill(stubs["codec_decoder"], signal.SIGKILL)
            start = time.monotonic()
            same = sum(stream.result() == alone[i % 2] for i, stream in enumerate(streams))
        took_s = time.monotonic() - start
        told = f"{same} of 8 the same, {took_s:.0f} s"
        judge("F02", "no supervisor: a dead codec costs time only", told, same == 8)
        triton.stop(force=True)
