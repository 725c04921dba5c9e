from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from live_gateway import wait_for
from scripted_client import CHUNK, tone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])


@contextmanager
def session(gateway: Any, **options: Any) -> Iterator[ClientConnection]:
    url = gateway.url.replace("http", "ws") + "/v1/audio/dialogue/stream"
    with connect(url, proxy=None, **options) as socket:
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


def test_pieces_of_text_are_spoken_on_flush(gateway: Any) -> None:
    with session(gateway) as socket:
        for piece in ("[S1]Te", "a?[S2]Cof", "fee."):
            send(socket, "input.text", text=piece)
        send(socket, "input.flush")
        messages, audio = receive_until(socket, "audio.done")
    assert gateway.asked[0] == "[S1]Tea?[S2]Coffee."
    assert [m["type"] for m in messages] == [
        "audio.start",
        "audio.turn",
        "audio.turn",
        "audio.done",
    ]
    assert messages[0]["sample_rate"] == 24_000
    assert messages[-1]["voice_segments"][1]["character_start_index"] == 12
    np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), WHOLE)


def test_configuration_is_kept_and_checked(gateway: Any) -> None:
    with session(gateway) as socket:
        send(socket, "session.config", seed=9, response_format="opus", subtitles="vtt")
        send(socket, "input.text", text="Hi.")
        send(socket, "input.done")
        messages, audio = receive_until(socket, "audio.done")
        assert audio.startswith(b"OggS")
        assert messages[-1]["seed"] == 9
        assert messages[-1]["subtitles"].startswith("WEBVTT")
        send(socket, "session.config", speed=100)
        assert "speed" in receive_until(socket, "error")[0][-1]["error"]["message"]


def test_cancel_ends_what_is_spoken_and_the_session_goes_on(gateway: Any) -> None:
    with session(gateway) as socket:
        send(socket, "input.text", text="hold")
        send(socket, "input.flush")
        receive_until(socket, "audio.turn")
        stream = gateway.client.streams[-1]
        send(socket, "cancel")
        receive_until(socket, "audio.cancelled")
        assert stream.is_left
        send(socket, "input.text", text="Hi.")
        send(socket, "input.flush")
        receive_until(socket, "audio.done")


def test_several_flushes_are_spoken_one_after_the_other(gateway: Any) -> None:
    with session(gateway) as socket:
        for text in ("One.", "Two."):
            send(socket, "input.text", text=text)
            send(socket, "input.flush")
        send(socket, "session.close")
        messages, _ = receive_until(socket, "session.done")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    assert [m["type"] for m in messages].count("audio.done") == 2


def test_leaving_cancels(gateway: Any) -> None:
    with session(gateway) as socket:
        send(socket, "input.text", text="hold")
        send(socket, "input.flush")
        receive_until(socket, "audio.turn")
    wait_for(lambda: gateway.client.streams[-1].is_left)
    wait_for(lambda: gateway.server.house.admission.num_running == 0)


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", "null", '{"type": "sing"}', '{"type": "input.text"}', '{"type": "input.flush"}',
     '{"type": "session.config", "emotion": "sad"}', '{"type": ["x"]}', b"\x00\x01"],
)  # fmt: skip
def test_a_message_that_means_nothing_is_answered_and_the_session_goes_on(
    gateway: Any, message: str | bytes
) -> None:
    with session(gateway) as socket:
        socket.send(message)
        error = receive_until(socket, "error")[0][-1]["error"]
        assert error["type"] == "invalid_request_error"
        send(socket, "session.close")
        receive_until(socket, "session.done")


def test_too_much_text_and_too_many_flushes_are_refused(gateway: Any) -> None:
    with session(gateway) as socket:
        send(socket, "input.text", text="a" * 20_001)
        assert receive_until(socket, "error")[0][-1]["error"]["code"] == "text_too_long"
        for _ in range(12):
            send(socket, "input.text", text="hold")
            send(socket, "input.flush")
        assert receive_until(socket, "error")[0][-1]["error"]["code"] == "server_full"
        send(socket, "cancel")
        receive_until(socket, "audio.cancelled")


def test_an_error_of_the_model_is_told_by_its_code(gateway: Any) -> None:
    with session(gateway) as socket:
        send(socket, "input.text", text="break")
        send(socket, "input.flush")
        assert receive_until(socket, "error")[0][-1]["error"]["code"] == "engine_error"


def test_pages_of_other_sites_are_not_let_in(gateway: Any) -> None:
    with pytest.raises(InvalidStatus), session(gateway, origin="https://elsewhere.example"):
        pass
    with session(gateway, origin=gateway.url) as socket:
        send(socket, "session.close")
        receive_until(socket, "session.done")


def test_a_key_is_asked_for_here_too(open_gateway: Any) -> None:
    gateway = open_gateway(auth={"keys": ["sk-1"]})
    with pytest.raises(InvalidStatus), session(gateway):
        pass
    with session(gateway, additional_headers={"Authorization": "Bearer sk-1"}) as socket:
        send(socket, "session.close")
        receive_until(socket, "session.done")
