from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from live_gateway import wait_for
from scripted_client import CHUNK, tone
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])


@pytest.fixture
def socket(gateway: Any) -> Any:
    url = gateway.url.replace("http", "ws") + "/v1/audio/speech/stream"
    with connect(url, proxy=None) as socket:
        yield socket


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def receive_until(socket: ClientConnection, kind: str) -> tuple[list[dict[str, Any]], bytes]:
    messages, audio = [], b""
    while not messages or messages[-1]["type"] != kind:
        message = socket.recv(timeout=20)
        if isinstance(message, bytes):
            audio += message
        else:
            messages.append(json.loads(message))
    return messages, audio


def test_done_is_a_flush_and_the_session_goes_on(socket: ClientConnection, gateway: Any) -> None:
    send(socket, "session.config", voice="nova", response_format="pcm", stream_audio=True)
    for idx, text in enumerate(("One.", "Two.")):
        for piece in (text[:2], text[2:]):
            send(socket, "input.text", text=piece)
        send(socket, "input.done")
        messages, audio = receive_until(socket, "session.done")
        np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), WHOLE)
        start, done, end = messages
        assert (start["type"], start["sentence_text"], start["format"]) == (
            "audio.start",
            text,
            "pcm",
        )
        assert (start["utterance_index"], start["sample_rate"]) == (idx, 24_000)
        assert (done["type"], done["total_bytes"], done["error"]) == (
            "audio.done",
            len(audio),
            False,
        )
        assert end["total_sentences"] == 1
        assert gateway.asked[0] == f"[S1]{text}"
    send(socket, "session.close")
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=10)


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([("session.config", {"speed": 9})], "speed"),
        ([("session.config", {"model": "gpt-5"})], "gpt-5"),
        ([("input.done", {})], "empty"),
        ([("session.config", {"voice": "nobody"}), *[("input.text", {"text": "a"})],
          ("input.done", {})], "nobody"),
        ([("input.text", {"text": "crash"}), ("input.done", {})], "failed"),
    ],
)  # fmt: skip
def test_an_error_has_its_message_at_the_top(
    socket: ClientConnection, messages: list[tuple[str, dict[str, Any]]], named: str
) -> None:
    for kind, fields in messages:
        send(socket, kind, **fields)
    error = receive_until(socket, "error")[0][-1]
    assert named in error["message"]
    assert error["error"]["code"]
    send(socket, "session.config")
    send(socket, "input.text", text="Hi.")
    send(socket, "input.done")
    receive_until(socket, "session.done")


def test_cancel_and_leaving_free_the_slot(socket: ClientConnection, gateway: Any) -> None:
    send(socket, "input.text", text="hold")
    send(socket, "input.done")
    receive_until(socket, "audio.start")
    send(socket, "cancel")
    receive_until(socket, "audio.cancelled")
    assert gateway.client.streams[-1].is_left
    send(socket, "input.text", text="hold")
    send(socket, "input.done")
    receive_until(socket, "audio.start")
    socket.close()
    wait_for(lambda: gateway.server.house.admission.num_running == 0)


def test_each_further_text_of_a_session_is_a_request(open_gateway: Any) -> None:
    gateway = open_gateway(
        {"rate_limit": {"enabled": True, "requests_per_minute": 1, "burst_size": 2}}
    )
    url = gateway.url.replace("http", "ws") + "/v1/audio/speech/stream"
    with connect(url, proxy=None) as socket:
        for kind in ("session.done", "session.done", "error"):
            send(socket, "input.text", text="Hi.")
            send(socket, "input.done")
            messages, _ = receive_until(socket, kind)
        assert messages[-1]["error"]["code"] == "rate_limit_exceeded"


def test_blanks_do_not_gather_without_end(open_gateway: Any) -> None:
    gateway = open_gateway({"max_text_chars": 100})
    url = gateway.url.replace("http", "ws") + "/v1/audio/speech/stream"
    with connect(url, proxy=None) as socket:
        for _ in range(2):
            send(socket, "input.text", text=" " * 60)
        messages, _ = receive_until(socket, "error")
        assert messages[-1]["error"]["code"] == "text_too_long"
