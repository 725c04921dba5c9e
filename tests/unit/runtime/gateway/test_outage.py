from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from live_gateway import wait_for

from duologue.runtime.gateway import process
from duologue.runtime.gateway.process import GatewayProcess
from duologue.runtime.gateway.settings import load_settings

STOPPED_S = 0.5


@pytest.fixture
def own_process() -> Iterator[GatewayProcess]:
    """A gateway as a process of its own, with no model behind it."""
    api = {"port": 0, "monitoring": {"metrics_port": 0}}
    settings = load_settings(flags={"api": api}, environment={})
    with GatewayProcess(settings, "127.0.0.1:1", grace_s=1) as gateway:
        yield gateway


def test_a_stream_ends_at_once_when_the_model_goes_away(open_gateway: Any) -> None:
    gateway = open_gateway()
    body = {"input": "hold", "stream_format": "ndjson", "response_format": "pcm"}
    with gateway.open("/v1/audio/dialogue", body) as answer:
        answer.readline()
        gateway.server.model_away("the process of the model x has died")
        last = answer.read().splitlines()[-1]
    assert b"server_restarting" in last
    assert gateway.server.house.admission.num_running == 0


def test_new_requests_are_refused_until_the_model_is_back(open_gateway: Any) -> None:
    gateway = open_gateway()
    gateway.server.model_away("the model is being loaded")
    wait_for(lambda: gateway.call("/readyz").status == 503)
    assert gateway.call("/readyz").json["reasons"] == ["the model is being loaded"]
    refused = gateway.speak("Hi.")
    assert (refused.status, refused.error["code"]) == (503, "server_restarting")
    assert int(refused.headers["retry-after"]) >= 1
    assert gateway.call("/livez").status == 200

    gateway.server.model_back()

    wait_for(lambda: gateway.call("/readyz").status == 200)
    assert gateway.speak("Hi.").status == 200


def test_a_draining_gateway_is_unready_and_tells_streams_that_take_too_long(
    open_gateway: Any,
) -> None:
    gateway = open_gateway()
    body = {"input": "hold", "stream_format": "ndjson", "response_format": "pcm"}
    with gateway.open("/v1/audio/dialogue", body) as answer:
        answer.readline()
        draining = threading.Thread(target=gateway.server.drain)
        draining.start()
        wait_for(lambda: gateway.call("/readyz").status == 503)
        assert gateway.speak("Hi.").error["code"] == "server_full"
        last = answer.read().splitlines()[-1]
        draining.join()
    assert b"speech.audio.error" in last


def test_a_gateway_of_its_own_process_comes_back_on_the_same_ports(
    own_process: GatewayProcess,
) -> None:
    urls, pid = (own_process.url, own_process.metrics_url), own_process.pid
    assert own_process.exit_status is None
    own_process.stop(force=True)
    assert own_process.pid is None
    own_process.start()
    assert (own_process.url, own_process.metrics_url) == urls
    assert own_process.pid != pid


def test_requests_are_let_in_once_the_process_has_been_told_of_the_model(
    own_process: GatewayProcess,
) -> None:
    assert own_process.pid is not None
    os.kill(own_process.pid, signal.SIGSTOP)
    telling = threading.Thread(target=own_process.model_back)
    telling.start()
    # It cannot have heard of it.
    telling.join(STOPPED_S)
    has_waited = telling.is_alive()
    os.kill(own_process.pid, signal.SIGCONT)
    telling.join()
    assert has_waited
    assert own_process.exit_status is None


def test_a_process_that_takes_in_nothing_is_ended_for_another_one(
    own_process: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", STOPPED_S)
    assert own_process.pid is not None
    os.kill(own_process.pid, signal.SIGSTOP)
    own_process.model_back()
    wait_for(lambda: own_process.exit_status is not None)


def test_a_model_that_is_back_is_told_to_a_gateway_that_has_died_without_waiting(
    own_process: GatewayProcess,
) -> None:
    assert own_process.pid is not None
    os.kill(own_process.pid, signal.SIGKILL)
    own_process.model_back()
    wait_for(lambda: own_process.exit_status is not None)
    own_process.stop(force=True)
    own_process.model_back()
    assert own_process.pid is None


def test_the_model_is_back_when_that_has_been_said(open_gateway: Any) -> None:
    """However long the event loop is busy with something else."""
    gateway = open_gateway()
    gateway.server.model_away("the model is being loaded")
    busy = threading.Event()
    gateway.server._loop.call_soon_threadsafe(busy.wait)
    telling = threading.Thread(target=gateway.server.model_back)
    telling.start()
    telling.join(STOPPED_S)
    has_waited = telling.is_alive()
    busy.set()
    telling.join()
    assert has_waited
    assert gateway.server.house.outage.reason is None
