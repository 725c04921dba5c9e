"""F01, F02: a process dies in mid-stream; every stream ends, and the service comes back."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from conftest import Judge
from live_serve import LiveServe, dialogue, serving

from duologue.client import DialogueClient
from duologue.client.errors import ServerUnavailableError

EVENTS = dialogue(stream_format="ndjson", seed=5, max_new_tokens=500)
SHORT = {"input": "[S1]Hi.", "seed": 5, "max_new_tokens": 20, "response_format": "pcm"}


def audio_of(lines: list[bytes]) -> bytes:
    events = [json.loads(line) for line in lines]
    return b"".join(base64.b64decode(e["audio"]) for e in events if "audio" in e)


def expected_audio(server: LiveServe) -> bytes:
    answer = server.talk(**EVENTS)
    return audio_of(answer.body.splitlines())


def hurt(server: LiveServe, process: int) -> tuple[float, list[bytes]]:
    """Kill a process under a stream; seconds to the end of the stream, and its lines."""
    with server.open("/v1/audio/dialogue", EVENTS) as answer:
        lines = [answer.readline()]
        os.kill(process, signal.SIGKILL)
        killed_at = time.monotonic()
        try:
            lines += answer.read().splitlines()
        except (IncompleteRead, ConnectionError):
            lines.append(b"")  # the gateway itself is gone: the connection says so
        return time.monotonic() - killed_at, lines


def judge_recovery(
    judge: Judge, fault: str, server: LiveServe, process: int, expected: bytes, what: str
) -> bytes:
    """Hold one death to the bounds of the table; gives the last line of the stream."""
    ended_s, lines = hurt(server, process)
    began = time.monotonic()
    judge(fault, f"{what}: the stream ends <= 5 s", f"{ended_s:.2f} s", ended_s <= 5)
    heard = audio_of([line for line in lines[:-1] if line])
    judge(
        fault,
        f"{what}: no audio twice, none wrong",
        f"{len(heard)} bytes, a prefix",
        0 < len(heard) < len(expected) and expected.startswith(heard),
    )
    unready_s = server.wait_until(lambda: not server.is_ready(), 30)
    judge(fault, f"{what}: not ready <= 5 s", f"{unready_s:.2f} s", unready_s <= 5)
    server.wait_until(server.is_ready, 120)
    back_s = time.monotonic() - began
    judge(fault, f"{what}: service back <= 30 s", f"{back_s:.1f} s", back_s <= 30)
    assert server.speak("[S1]Hi.", max_new_tokens=10).status == 200
    return lines[-1]


@pytest.mark.short
def test_f01_a_killed_model(needs_triton: None, judge: Judge, tmp_path: Path) -> None:
    with serving(tmp_path, "--max-restarts=9") as server:
        before = server.processes()
        expected = expected_audio(server)
        stub = server.stub("dialogue_tts")
        last = judge_recovery(judge, "F01", server, stub, expected, "stub")
        code = json.loads(last)["error"]["code"]
        judge("F01", "the error is typed", code, code == "server_restarting")
        kept = [n for p, n in before.items() if p in server.processes() and n == "gateway"]
        judge("F01", "the gateway lives on", ", ".join(kept) or "none", kept == ["gateway"])
        restarts = server.metrics()['duologue_server_restarts_total{reason="model_died"}']
        judge("F01", "restarts counted by reason", f"model_died {restarts:g}", restarts == 1)


def test_f01_a_killed_model_under_a_grpc_client(
    needs_triton: None, judge: Judge, tmp_path: Path
) -> None:
    with serving(tmp_path) as server, DialogueClient(server.facts["grpc_url"]) as client:
        stream = client.stream("[S1]" + "And so on. " * 80, max_frames=1500)
        next(stream)
        os.kill(server.stub("dialogue_tts"), signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            list(stream)
        took_s = time.monotonic() - start
        judge("F01", "gRPC: UNAVAILABLE <= 5 s", f"{took_s:.2f} s", took_s <= 5)


def test_f01_a_frozen_model(needs_triton: None, judge: Judge, tmp_path: Path) -> None:
    """It lives, and answers nobody: only asking shows it."""
    with serving(tmp_path, settings={"api": {"gap_timeout": 2}}) as server:
        with server.open("/v1/audio/dialogue", EVENTS) as answer:
            answer.readline()
            os.kill(server.stub("dialogue_tts"), signal.SIGSTOP)
            start = time.monotonic()
            last = answer.read().splitlines()[-1]
        ended_s = time.monotonic() - start
        judge("F01", "frozen: the watchdog ends it <= 5 s", f"{ended_s:.1f} s", ended_s <= 5)
        assert json.loads(last)["error"]["code"] == "no_audio_in_time"
        name = 'duologue_server_restarts_total{reason="no_answer"}'
        server.wait_until(lambda: server.metrics().get(name) == 1, 120)
        server.wait_until(server.is_ready, 120)
        back_s = time.monotonic() - start
        judge("F01", "frozen: service back <= 60 s", f"{back_s:.1f} s", back_s <= 60)


DEATHS: dict[str, Callable[[LiveServe], int]] = {
    "codec stub": lambda server: server.stub("codec_decoder"),
    "tritonserver": lambda server: server.triton,
    "gateway": lambda server: server.gateway,
}


@pytest.mark.parametrize("what", DEATHS)
def test_f02_another_process_is_killed(server: LiveServe, judge: Judge, what: str) -> None:
    expected = expected_audio(server)
    last = judge_recovery(judge, "F02", server, DEATHS[what](server), expected, what)
    told: Any = json.loads(last)["error"]["code"] if last else "connection broken"
    allowed = ("server_restarting", "server_unavailable", "connection broken")
    judge("F02", f"{what}: the error is typed", told, told in allowed)


def test_f02_new_requests_are_refused_at_once_meanwhile(server: LiveServe, judge: Judge) -> None:
    os.kill(server.stub("dialogue_tts"), signal.SIGKILL)
    server.wait_until(lambda: not server.is_ready(), 30)
    start = time.monotonic()
    refused = server.talk(**SHORT)
    took_s = time.monotonic() - start
    retry = refused.headers.get("retry-after", "none")
    told = f"{refused.status}, Retry-After {retry}, {took_s:.2f} s"
    holds = refused.status == 503 and retry.isdecimal() and took_s <= 5
    judge("F02", "meanwhile 503 and Retry-After", told, holds)
    server.wait_until(server.is_ready, 120)
