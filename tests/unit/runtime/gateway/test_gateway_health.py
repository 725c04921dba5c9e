from __future__ import annotations

from typing import Any

from live_gateway import wait_for

from duologue.runtime.gateway import machine
from duologue.runtime.gateway.machine import Memory


def test_it_is_ready_when_the_model_has_spoken(gateway: Any) -> None:
    wait_for(lambda: gateway.call("/readyz").status == 200)
    assert gateway.call("/readyz").json == {"ready": True, "reasons": []}
    assert gateway.call("/livez").status == 200
    assert gateway.client.probes[0].script == "[S1]Hi."


def test_health_has_the_fields_of_the_platform(gateway: Any) -> None:
    wait_for(lambda: gateway.call("/health").status == 200)
    body = gateway.call("/health").json
    assert set(body) == {"status", "version", "model_loaded", "gpu_available", "memory_usage"}
    assert (body["status"], body["model_loaded"]) == ("healthy", True)
    assert set(body["memory_usage"]) == {"total", "used", "free"}
    assert all(size.endswith("GB") for size in body["memory_usage"].values())


def test_a_server_that_is_away_makes_it_unready_with_a_reason(open_gateway: Any) -> None:
    gateway = open_gateway()
    wait_for(lambda: gateway.call("/readyz").status == 200)
    gateway.client.ready = False
    answer = gateway.call("/readyz")
    assert answer.status == 503
    assert "does not answer" in answer.json["reasons"][0]
    assert gateway.call("/health").json["status"] == "unhealthy"
    assert gateway.call("/livez").status == 200


def test_a_failed_request_makes_the_monitor_look_at_once(open_gateway: Any) -> None:
    gateway = open_gateway({"monitoring": {"metrics_port": 0, "health_check_interval": 3600}})
    wait_for(lambda: gateway.call("/readyz").status == 200)
    gateway.client.is_broken = True
    gateway.speak("crash")
    wait_for(lambda: gateway.call("/readyz").status == 503)
    gateway.client.is_broken = False
    wait_for(lambda: gateway.call("/readyz").status == 200)


def test_a_stopping_gateway_is_not_ready(open_gateway: Any) -> None:
    gateway = open_gateway()
    wait_for(lambda: gateway.call("/readyz").status == 200)
    gateway.server.house.admission.is_draining = True
    assert gateway.call("/readyz").json["reasons"] == ["the server is about to stop"]
    assert gateway.speak("Hi.").status == 503


def test_the_first_gpus_memory_is_read_from_nvidia_smi(monkeypatch: Any, tmp_path: Any) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '8192, 2048, 50'\necho '8192, 0, 0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine._ask_gpus.cache_clear()
    assert machine.read_memory() == (Memory(16 * 2**30, 2 * 2**30), True)
    assert machine.gpu_utilization() == 0.25
    program.write_text("#!/bin/sh\necho broken\n")
    machine._ask_gpus.cache_clear()
    assert machine.read_memory()[1] is False
    machine._ask_gpus.cache_clear()
