"""F23, F24: a key that is taken away in mid-stream, and a log that nobody takes."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path

import pytest
from conftest import Judge
from live_serve import dialogue, serving

pytestmark = pytest.mark.usefixtures("needs_triton")
KEY = "a-key-of-the-test"
OTHER = "another-key-of-the-test"


def key_line(name: str, key: str) -> str:
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


def test_f23_a_key_that_is_taken_away(judge: Judge, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(key_line("ann", KEY) + key_line("bob", OTHER))
    with serving(tmp_path / "serve", f"--keys-file={keys}") as server:
        import json
        import urllib.request

        body = dialogue(stream_format="ndjson", max_new_tokens=300)
        request = urllib.request.Request(
            server.url + "/v1/audio/dialogue",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.readline()
            keys.write_text(key_line("bob", OTHER))
            own = {"headers": {"Authorization": f"Bearer {KEY}"}}
            refused = server.call("/v1/audio/speech", {"input": "Hi.", "model": "tts-1"}, **own)
            last = json.loads(answer.read().splitlines()[-1])
    ended = last["type"]
    judge("F23", "the running stream is finished", ended, ended == "speech.audio.done")
    judge("F23", "the next one is refused", str(refused.status), refused.status == 401)


def test_f23_a_quota_that_is_crossed_in_mid_stream(judge: Judge, tmp_path: Path) -> None:
    limits = {"enabled": True, "requests_per_minute": 1, "burst_size": 1}
    with serving(tmp_path, settings={"api": {"rate_limit": limits}}) as server:
        body = dialogue(stream_format="ndjson", max_new_tokens=300)
        with server.open("/v1/audio/dialogue", body) as answer:
            answer.readline()
            refused = server.speak("Hi.")
            ended = answer.read().splitlines()[-1]
    retry = refused.headers.get("retry-after", "none")
    told = f"{refused.status}, Retry-After {retry}"
    judge("F23", "quota: the next one 429", told, refused.status == 429 and retry.isdecimal())
    judge("F23", "quota: the running one is finished", "done", b"speech.audio.done" in ended)


def test_f24_a_log_that_nobody_takes(judge: Judge, tmp_path: Path) -> None:
    settings = {"logging": {"level": "DEBUG"}}
    with serving(tmp_path, settings=settings, reads_stderr=False) as server:

        def ask_ms() -> float:
            start = time.perf_counter()
            assert server.call("/v1/models").status == 200
            return (time.perf_counter() - start) * 1000

        before_ms = statistics.median(ask_ms() for _ in range(100))
        for _ in range(1500):  # 64 KiB of pipe are full after some hundreds
            server.call("/livez")
        after_ms = statistics.median(ask_ms() for _ in range(100))
        status = server.speak("[S1]Hi.", max_new_tokens=10).status
    told = f"{before_ms:.1f} ms, then {after_ms:.1f} ms"
    judge("F24", "blocked log: no request waits", told, after_ms <= 2 * before_ms + 5)
    judge("F24", "blocked log: speech goes on", str(status), status == 200)
