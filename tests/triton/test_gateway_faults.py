"""The gateway in front of a server that is hurt; a server of its own, which is spent by it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

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
    # The server that other tests share runs beside ours, and must not be the one that is hurt.
    others = stubs_of("dialogue_tts")
    with EmbeddedServer("noise", log_path=tmp_path / "triton.log", exit_timeout_s=2) as triton:
        settings = load_settings(flags={"api": api}, environment={})
        with GatewayServer(settings, triton.grpc_url, grace_s=1) as server:
            gateway = HurtGateway(server, ScriptedClient())
            (gateway.stub,) = stubs_of("dialogue_tts") - others
            wait_for(lambda: gateway.call("/readyz").status == 200, 30)
            yield gateway


def stubs_of(model: str) -> set[int]:
    """The processes of a model in all servers that this process has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        is_stub = b"triton_python_backend_stub" in command and f"/{model}/".encode() in command
        if is_stub and f"duologue_{os.getpid()}_".encode() in command:
            found.add(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_killed_model_ends_its_streams_and_makes_the_gateway_unready(
    gateway: HurtGateway, record_property: Callable[[str, object], None]
) -> None:
    body: dict[str, Any] = {"input": LONG, "stream_format": "ndjson", "response_format": "pcm"}
    with gateway.open("/v1/audio/dialogue", body) as answer:
        assert b"speech.audio.delta" in answer.readline()
        os.kill(gateway.stub, signal.SIGKILL)
        killed_at = time.monotonic()
        last = answer.read().splitlines()[-1]
    took_s = time.monotonic() - killed_at

    assert b"speech.audio.error" in last
    wait_for(lambda: gateway.call("/readyz").status == 503)
    ready_took_s = time.monotonic() - killed_at
    assert gateway.call("/livez").status == 200
    refused = gateway.speak("Hi.")
    assert refused.status in (500, 503, 504)
    assert gateway.server.house.admission.num_running == 0
    record_property("error_after_s", round(took_s, 1))
    record_property("not_ready_after_s", round(ready_took_s, 1))
