from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from live_gateway import Gateway, wait_for

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

Open = Callable[..., Gateway]


def test_a_key_is_asked_for_where_there_are_keys(open_gateway: Open, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"alice {hashlib.sha256(b'sk-1').hexdigest()}\n")
    gateway = open_gateway(auth={"keys_file": path})

    answer = gateway.speak("Hi.")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    wrong = gateway.call("/v1/models", headers={"Authorization": "Bearer sk-2"})
    assert wrong.status == 401
    right = gateway.call("/v1/models", headers={"Authorization": "Bearer sk-1"})
    assert right.status == 200
    assert gateway.call("/v1/models", headers={"X-API-Key": "sk-1"}).status == 200
    assert gateway.client.asked == []


def test_a_key_that_goes_not_far_enough_is_told_so(open_gateway: Open, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    digest = hashlib.sha256(b"sk-1").hexdigest()
    path.write_text(f"alice {digest} scopes=voices\n")
    gateway = open_gateway(auth={"keys_file": path})
    key = {"Authorization": "Bearer sk-1"}
    answer = gateway.call("/v1/audio/speech", {"model": "tts-1", "input": "Hi."}, headers=key)
    assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")
    assert gateway.call("/v1/models", headers=key).status == 200
    path.write_text(f"alice {digest} scopes=speak\n")
    body = {"model": "tts-1", "input": "Hi."}
    assert gateway.call("/v1/audio/speech", body, headers=key).status == 200
    assert gateway.call("/v1/audio/voices/x", headers=key, method="DELETE").status == 403


def test_one_caller_holds_no_more_streams_than_it_may(open_gateway: Open) -> None:
    gateway = open_gateway({"max_streams_per_caller": 1})
    fields = {"input": "hold", "stream_format": "ndjson", "response_format": "pcm"}
    with gateway.open("/v1/audio/dialogue", fields) as answer:
        answer.readline()
        refused = gateway.speak("Hi.")
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" in refused.headers


def test_too_many_requests_are_told_when_to_come_back(open_gateway: Open) -> None:
    limit = {"enabled": True, "requests_per_minute": 1, "burst_size": 2}
    gateway = open_gateway({"rate_limit": limit})
    assert [gateway.speak("Hi.").status for _ in range(3)] == [200, 200, 429]
    answer = gateway.speak("Hi.")
    assert answer.error["type"] == "rate_limit_error"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert gateway.call("/v1/models").status == 200


def test_a_full_house_refuses_at_once(open_gateway: Open) -> None:
    gateway = open_gateway({"max_streams": 1})
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    body = json.dumps({"model": "tts-1", "input": "hold", "response_format": "pcm"})
    connection.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
    connection.getresponse().read(10)

    answer = gateway.speak("Hi.")
    assert (answer.status, answer.error["code"]) == (503, "server_full")
    connection.close()
    wait_for(lambda: gateway.server.house.admission.num_running == 0)
    assert gateway.speak("Hi.").status == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(open_gateway: Open) -> None:
    gateway = open_gateway({"max_json_size": "2KB"})
    answer = gateway.call("/v1/audio/speech", data=b"x" * 3000)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")

    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_silent_model_ends_in_a_deadline(open_gateway: Open) -> None:
    gateway = open_gateway({"timeout": 0.01})
    answer = gateway.speak("never")
    assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
    assert gateway.client.streams[-1].is_left


def test_silence_in_mid_stream_ends_in_an_error(open_gateway: Open) -> None:
    gateway = open_gateway({"gap_timeout": 0.05})
    events = gateway.speak("hold", response_format="pcm", stream_format="sse").events
    assert events[-1]["error"]["code"] == "no_audio_in_time"
    assert gateway.client.streams[-1].is_left


def test_silence_from_the_start_has_its_status(open_gateway: Open) -> None:
    gateway = open_gateway({"chunk_timeout": 0.05})
    answer = gateway.speak("never")
    assert (answer.status, answer.error["code"]) == (504, "no_audio_in_time")


def test_a_reader_who_stalls_is_let_go(open_gateway: Open) -> None:
    gateway = open_gateway({"stall_timeout": 0.3})
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        body = json.dumps({"model": "tts-1", "input": "endless", "response_format": "pcm"})
        head = (
            f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        )
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
        wait_for(lambda: bool(gateway.client.streams) and gateway.client.streams[-1].is_left)
    assert not gateway.client.streams[-1].is_whole
    page = gateway.server.house.metrics.page().decode()
    assert 'duologue_http_watchdog_total{reason="reader"} 1.0' in page
    assert "duologue_error_rate 0.0" in page


def test_a_request_keeps_its_name_if_that_is_harmless(gateway: Gateway) -> None:
    named = gateway.call("/v1/models", headers={"X-Request-Id": "abc-1"})
    assert named.headers["x-request-id"] == "abc-1"
    renamed = gateway.call("/v1/models", headers={"X-Request-Id": "a b" * 100})
    assert len(renamed.headers["x-request-id"]) == 16


def test_other_sites_are_let_in_only_when_told_so(open_gateway: Open, gateway: Gateway) -> None:
    headers = {"Origin": "https://elsewhere.example"}
    assert "access-control-allow-origin" not in gateway.call("/v1/models", headers=headers).headers
    open_to_all = open_gateway({"cors": {"enabled": True}})
    answer = open_to_all.call("/v1/models", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    asked = {**headers, "Access-Control-Request-Method": "POST"}
    assert open_to_all.call("/v1/audio/speech", method="OPTIONS", headers=asked).status == 200


def test_a_stopping_gateway_lets_streams_end_within_its_grace(open_gateway: Open) -> None:
    gateway = open_gateway()
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    body = json.dumps({"model": "tts-1", "input": "hold", "response_format": "pcm"})
    connection.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
    connection.getresponse().read(10)
    before = time.monotonic()
    gateway.server.stop()
    assert time.monotonic() - before < 10
    assert gateway.client.streams[-1].is_left
    assert gateway.client.is_closed
    connection.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = load_settings(flags={"api": {"port": port}}, environment={})
        with pytest.raises(ConfigError, match=f"api.port {port}"):
            GatewayServer(settings, "127.0.0.1:1").start()


def test_metrics_count_what_happened_without_naming_anyone(open_gateway: Open) -> None:
    gateway = open_gateway()
    gateway.speak("Hi.", voice="echo")
    gateway.speak("crash")
    assert gateway.server.metrics_url is not None
    gateway.url = ""
    page = gateway.call(gateway.server.metrics_url).body.decode()

    values = dict(
        line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#")
    )
    assert values['duologue_http_requests_total{door="speech",outcome="ok"}'] == "1.0"
    assert values['duologue_http_requests_total{door="speech",outcome="engine_error"}'] == "1.0"
    assert values["duologue_http_ttfa_seconds_count"] == "1.0"
    assert values["duologue_http_inter_chunk_seconds_count"] == "2.0"
    assert values["duologue_http_audio_seconds_total"] == "1.5"
    assert values["duologue_error_rate"] == "0.5"
    assert values["duologue_triton_up"] == "0"
    names = ("throughput", "gpu_utilization", "memory_usage_bytes", "cache_hit_ratio")
    assert all(f"duologue_{name}" in values for name in names)
    assert values["duologue_synthesis_latency_seconds_count"] == "1.0"
    assert "echo" not in page


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_form_of_another_sites_page_makes_nothing_speak(gateway: Gateway, kind: str) -> None:
    before = len(gateway.client.asked)
    data = json.dumps({"model": "tts-1", "input": "Hi."}).encode()
    answer = gateway.call("/v1/audio/speech", data=data, headers={"Content-Type": kind})
    assert answer.status == 422
    assert len(gateway.client.asked) == before


def test_the_interface_is_described(gateway: Gateway) -> None:
    paths = gateway.call("/openapi.json").json["paths"]
    assert set(paths) >= {"/v1/audio/speech", "/v1/audio/dialogue", "/api/v1/tts/synthesize"}
    assert set(paths) >= {"/api/v1/tts/synthesize_file", "/api/v1/voices/upload", "/tts"}


def test_files_are_read_only_where_they_may_go(open_gateway: Open) -> None:
    gateway = open_gateway({"max_json_size": 1000})
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert gateway.call("/readyz", data=bytes(2000), headers=headers).status == 413
    assert gateway.call("/v1/audio/voices", data=bytes(2000), headers=headers).status == 400
