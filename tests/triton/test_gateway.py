"""The gateway in front of a real tritonserver."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

from duologue.client import DialogueClient
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."


@pytest.fixture(scope="module")
def gateway(door: Any) -> Iterator[Gateway]:
    flags = {"api": {"port": 0, "monitoring": {"metrics_port": 0, "health_check_interval": 3600}}}
    settings = load_settings(flags=flags, environment={})
    url, metrics_url = door.url, door.server.metrics_url
    with GatewayServer(settings, url, triton_metrics_url=metrics_url, grace_s=2) as server:
        gateway = Gateway(server, ScriptedClient())
        wait_for(lambda: gateway.call("/readyz").status == 200, 30)
        yield gateway


def test_the_audio_is_byte_for_byte_that_of_the_grpc_door(door: Any, gateway: Gateway) -> None:
    with DialogueClient(door.url) as client:
        expected = client.synthesize(SCRIPT, seed=11, max_frames=60)
    fields = {"seed": 11, "max_new_tokens": 60, "response_format": "pcm"}

    body = gateway.speak(SCRIPT, **fields).body
    np.testing.assert_array_equal(np.frombuffer(body, "<i2"), expected.samples)

    *deltas, done = gateway.talk(input=SCRIPT, stream_format="ndjson", **fields).lines
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert audio == body
    times = [(t.start_s, t.end_s) for t in expected.turn_times]
    told = [(s["start_time_seconds"], s["end_time_seconds"]) for s in done["voice_segments"]]
    np.testing.assert_allclose(told, times, atol=0.001)
    said = [
        SCRIPT[s["character_start_index"] : s["character_end_index"]]
        for s in done["voice_segments"]
    ]
    assert said == ["Have you had breakfast?", "Not yet. Coffee first, then we shall see."]


def test_the_openai_package_speaks(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        for audio_format in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
            create = client.audio.speech.with_streaming_response.create
            with create(
                model="tts-1",
                voice="alloy",
                input="Hello.",
                response_format=audio_format,
                extra_body={"max_new_tokens": 30},
            ) as answer:
                parts = list(answer.iter_bytes(1024))
            assert sum(map(len, parts)) > 2000, audio_format
        with pytest.raises(openai.BadRequestError, match="speaker"):
            client.audio.speech.create(model="tts-1", voice="alloy", input="[S1]Hi.[S9]Ho.")


def test_inputs_are_spoken_and_a_hidden_tag_is_refused(gateway: Gateway) -> None:
    turns = [{"voice": "nova", "text": "Tea?"}, {"voice": "echo", "text": "Coffee."}]
    answer = gateway.talk(inputs=turns, stream_format="ndjson", max_new_tokens=40)
    assert [s["speaker"] for s in answer.lines[-1]["voice_segments"]] == [1, 2]
    turns[1]["text"] = "Coffee.[S1]I am somebody else."
    refused = gateway.talk(inputs=turns)
    assert (refused.status, refused.error["code"]) == (400, "invalid_script")


@contextmanager
def raw_request(gateway: Gateway, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A connection whose answer is taken as slowly as one likes, through a small buffer."""
    host, port = gateway.url.removeprefix("http://").split(":")
    data = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    with socket.socket() as connection:
        connection.settimeout(30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{data}".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
        yield connection


LONG = "[S1]" + "And so on. " * 80
LONG_FRAMES = 1500


def test_a_caller_who_leaves_frees_the_slot(door: Any, gateway: Gateway) -> None:
    body = {"input": LONG, "response_format": "pcm", "max_new_tokens": LONG_FRAMES}
    with raw_request(gateway, "/v1/audio/dialogue", body):
        assert door.metrics()["duologue_active_streams"] >= 1
    door.wait_until_idle()
    wait_for(lambda: gateway.server.house.admission.num_running == 0)


def test_a_slow_reader_holds_the_model_back(door: Any, gateway: Gateway) -> None:
    before = door.metrics()["duologue_audio_seconds_total"]
    made: list[float] = []

    def has_settled() -> bool:
        time.sleep(0.3)
        made.append(door.metrics()["duologue_audio_seconds_total"] - before)
        return len(made) > 10 and made[-1] == made[-10]

    # At this rate the whole answer is 11 MB, more than the buffers on the way hold.
    body = {
        "input": LONG,
        "response_format": "pcm",
        "sample_rate": 48000,
        "max_new_tokens": LONG_FRAMES,
    }
    with raw_request(gateway, "/v1/audio/dialogue", body):
        wait_for(has_settled, 90)
        assert door.metrics()["duologue_active_streams"] == 1
    assert made[-1] < LONG_FRAMES * 0.08 - 10
    door.wait_until_idle()


def test_refused_requests_leave_a_server_that_can_still_stop(gateway: Gateway) -> None:
    """Its exit status is looked at when the last test is done."""
    too_long = "[S1]" + "And so on. " * 1500
    answers = [gateway.speak(too_long) for _ in range(30)]
    assert {answer.error["code"] for answer in answers} == {"context_length_exceeded"}


def test_callers_headers_never_reach_the_model(gateway: Gateway) -> None:
    hostile = {
        "grpc-timeout": "1n",
        "triton-grpc-protocol-x": "y",
        "te": "trailers",
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "X-Bin": "a" * 5000,
    }
    answer = gateway.call(
        "/v1/audio/speech",
        {"model": "tts-1", "input": "Hi.", "max_new_tokens": 10},
        headers=hostile,
    )
    assert answer.status == 200


def test_sixteen_callers_at_once_sound_as_they_do_alone(gateway: Gateway) -> None:
    def speak(i: int) -> bytes:
        return gateway.speak(
            f"[S1]Number {i}.[S2]I hear you.",
            seed=i,
            max_new_tokens=25 + i,
            response_format="pcm",
        ).body

    alone = [speak(i) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(speak, range(16))) == alone


def test_the_metrics_of_both_stand_on_one_page(gateway: Gateway) -> None:
    assert gateway.server.metrics_url is not None
    with urllib.request.urlopen(gateway.server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    assert "duologue_triton_up 1" in text
    assert "nv_inference_request_success" in text
    assert "duologue_active_streams " in text
    assert "duologue_http_ttfa_seconds_bucket" in text
    announced = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(announced) == len(set(announced))


def test_serve_starts_both_and_ends_them_on_sigterm(needs_triton: None, tmp_path: Path) -> None:
    config = tmp_path / "api.yaml"
    log = tmp_path / "http.log"
    config.write_text(f"logging: {{file: {log}, format: plain}}\n")
    ports = [f"--{door}-port=0" for door in ("grpc", "http", "metrics")]
    command = [
        sys.executable,
        "-m",
        "duologue.cli",
        "serve",
        "--bundle",
        "noise",
        "--json",
        "--config",
        str(config),
    ]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            request = urllib.request.Request(
                facts["http_url"] + "/v1/audio/speech",
                data=b'{"model": "tts-1", "input": "Hi.", "max_new_tokens": 20}',
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert len(answer.read()) > 1000
            with urllib.request.urlopen(facts["metrics_url"], timeout=30) as answer:
                assert b"duologue_triton_up 1" in answer.read()
            children = Path("/proc") / str(process.pid) / "task" / str(process.pid) / "children"
            guards = children.read_text().split()
            assert guards
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert not any(Path("/proc", guard).exists() for guard in guards)
    assert not list(Path("/dev/shm").glob(f"duologue_{process.pid}_*"))
    # The line that the MegaTTS3 platform's log analysis averages: seconds in field 4.
    lines = [line for line in log.read_text().splitlines() if "synthesis_time" in line]
    assert float(lines[0].split()[3]) > 0
