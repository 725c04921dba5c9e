"""Whatever a caller sends, the fault is the caller's, and the next one is served."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATHS = ("/v1/audio/speech", "/v1/audio/dialogue", "/api/v1/tts/synthesize")
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
PIECES = (
    *(b"--x\r\n", b"--x--", b"\r\n", b"text=Hi.&", b"speaker=", b"%ff", b"name=x"),
    b'Content-Disposition: form-data; name="text"\r\n\r\n',
    b'Content-Disposition: form-data; name="voice_file"; filename="../x"\r\n\r\n',
    b'Content-Disposition: form-data; name="audio_sample"; filename="a\0b"\r\n\r\n',
    b"Content-Disposition: form-data\r\n\r\n",
    b"RIFF\xff\xff\xff\xffWAVEfmt ",
)
FIELDS = (
    *("model", "input", "voice", "voices", "inputs", "speed", "pitch", "seed", "stream"),
    *("response_format", "stream_format", "text", "voice_id", "parameters", "top_k", "subtitles"),
)

FORM_PATHS = (
    *("/tts", "/api/v1/tts/synthesize_file", "/api/v1/voices/upload", "/v1/audio/voices"),
)
# The same requests on every run, however slow the machine is.
STEADY = settings(
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["default", "tts-1", "pcm", "sse", "\ud800", "[S1]", "\0", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=6)


@settings(STEADY, max_examples=300)
@given(path=st.sampled_from(PATHS), body=bodies)
def test_any_json_is_spoken_or_refused(gateway: Any, path: str, body: dict[str, Any]) -> None:
    answer = gateway.call(path, body)
    assert answer.status in (200, 400, 404, 413, 422), answer
    if answer.status != 200:
        assert set(answer.error) == {"message", "type", "param", "code"}


@settings(STEADY, max_examples=200)
@given(path=st.sampled_from(PATHS), data=st.binary(max_size=200))
def test_any_bytes_are_refused(gateway: Any, path: str, data: bytes) -> None:
    assert gateway.call(path, data=data, method="POST").status in (400, 404, 422)


@settings(STEADY, max_examples=200)
@given(
    path=st.sampled_from(FORM_PATHS),
    kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", FORM]),
    parts=st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=8),
)
def test_any_form_is_refused(gateway: Any, path: str, kind: str, parts: list[bytes]) -> None:
    data = b"".join(parts)
    answer = gateway.call(path, data=data, headers={"Content-Type": kind}, method="POST")
    assert answer.status in (200, 400, 404, 413, 422), answer


def test_a_form_of_a_million_fields_is_refused(gateway: Any) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    data = part * (900_000 // len(part))
    answer = gateway.call("/v1/audio/voices", data=data, headers={"Content-Type": MULTIPART})
    assert answer.status == 400


def test_five_hundred_broken_connections_leave_nothing_behind(gateway: Any) -> None:
    rng = random.Random(1)
    whole = json.dumps({"model": "tts-1", "input": "hold"}).encode()
    head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Length: %d\r\n" % len(whole)
    whole = head + b"Content-Type: application/json\r\n\r\n" + whole
    host, port = gateway.url.removeprefix("http://").split(":")
    for _ in range(500):
        cut = bytearray(whole[: rng.randrange(len(whole))])
        if rng.random() < 0.5 and cut:
            cut[rng.randrange(len(cut))] = rng.randrange(256)
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(cut)
    assert gateway.speak("Hi.").status == 200
    assert gateway.server.house.admission.num_running == 0


@pytest.mark.parametrize("path", ["/v1/audio/speech?x=" + "a" * 70_000, "/" + "a/" * 10_000])
def test_long_addresses_are_answered(gateway: Any, path: str) -> None:
    assert 400 <= gateway.call(path, {}).status < 500
