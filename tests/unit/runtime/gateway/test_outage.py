from __future__ import annotations

import threading
from typing import Any

from live_gateway import wait_for

from duologue.runtime.gateway.process import GatewayProcess
from duologue.runtime.gateway.settings import load_settings


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


def test_a_gateway_of_its_own_process_comes_back_on_the_same_ports() -> None:
    api = {"port": 0, "monitoring": {"metrics_port": 0}}
    settings = load_settings(flags={"api": api}, environment={})
    gateway = GatewayProcess(settings, "127.0.0.1:1", grace_s=1)
    with gateway:
        urls, pid = (gateway.url, gateway.metrics_url), gateway.pid
        assert gateway.exit_status is None
        gateway.stop(force=True)
        assert gateway.pid is None
        gateway.start()
        assert (gateway.url, gateway.metrics_url) == urls
        assert gateway.pid != pid
