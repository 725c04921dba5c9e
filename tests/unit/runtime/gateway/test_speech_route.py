from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import wave
from typing import Any

import numpy as np
import pytest
from live_gateway import wait_for
from scripted_client import CHUNK, RATE_HZ, tone

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])
MAGIC = {"opus": b"OggS", "flac": b"fLaC", "wav": b"RIFF"}


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_every_format_comes_with_its_type_and_in_pieces(gateway: Any, audio_format: str) -> None:
    answer = gateway.speak("Hi.", voice="alloy", response_format=audio_format)

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("audio/")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-sample-rate"] == "24000"
    assert answer.headers["x-seed"] == "7"
    assert answer.body.startswith(MAGIC.get(audio_format, b""))
    assert len(answer.body) > 5000


def test_mp3_is_the_default(gateway: Any) -> None:
    assert gateway.speak("Hi.").headers["content-type"] == "audio/mpeg"


def test_pcm_is_the_models_audio_sample_for_sample(gateway: Any) -> None:
    body = gateway.speak("Hi.", response_format="pcm").body
    np.testing.assert_array_equal(np.frombuffer(body, "<i2"), WHOLE)


def test_plain_text_is_the_first_speakers_and_tags_are_kept(gateway: Any) -> None:
    gateway.speak("Alice: hello\nBob: hi", response_format="pcm")
    assert gateway.asked[0] == "[S1]Alice: hello\nBob: hi"
    gateway.speak("[S2]Hi.[S1]Ho.", response_format="pcm")
    assert gateway.asked[0] == "[S2]Hi.[S1]Ho."


def test_options_reach_the_model(gateway: Any) -> None:
    gateway.speak("Hi.", seed=5, temperature=0.7, top_k=3, max_new_tokens=20, text_frontend="zh_en")
    options = gateway.asked[1]
    assert (options["seed"], options["temperature"], options["top_k"]) == (5, 0.7, 3)
    assert (options["max_frames"], options["text_frontend"]) == (20, "zh_en")
    assert options["max_ahead_s"] == 10
    assert options["deadline_s"] == 300
    assert options["voices"] == {}


def test_a_whole_wav_says_how_long_it_is(gateway: Any) -> None:
    answer = gateway.speak("Hi.", response_format="wav", stream=False)
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["x-finish-reason"] == "stop"
    with wave.open(io.BytesIO(answer.body)) as file:
        assert file.getnframes() == len(WHOLE)
        assert file.getframerate() == RATE_HZ


def test_speed_shortens_the_audio(gateway: Any) -> None:
    body = gateway.speak("Hi.", response_format="pcm", speed=2.0).body
    assert len(body) / 2 == pytest.approx(len(WHOLE) / 2, rel=0.05)


def test_events_carry_the_audio_and_end_with_the_usage(gateway: Any) -> None:
    answer = gateway.speak("Hi.", response_format="pcm", stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = answer.events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), WHOLE)
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_an_error_between_events_is_an_event(gateway: Any) -> None:
    events = gateway.speak("break", response_format="pcm", stream_format="sse").events
    assert [event["type"] for event in events] == ["speech.audio.delta", "speech.audio.error"]
    assert events[-1]["error"]["code"] == "engine_error"


def test_an_error_within_audio_breaks_the_answer_off(gateway: Any) -> None:
    with pytest.raises(http.client.IncompleteRead):
        gateway.speak("break", response_format="pcm")


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("refuse", 400, "invalid_script"),
        ("full", 503, "server_full"),
        ("long", 400, "context_length_exceeded"),
        ("gone", 503, "server_unavailable"),
        ("mute", 504, "no_audio_in_time"),
        ("crash", 500, "engine_error"),
        ("   ", 400, "invalid_script"),
        ("", 400, "invalid_script"),
        ("a\ud800", 400, "invalid_script"),
        ("a" * 20_001, 413, "text_too_long"),
    ],
)
def test_an_error_before_the_audio_has_its_status(
    gateway: Any, text: str, status: int, code: str
) -> None:
    answer = gateway.speak(text)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "secret" not in answer.error["message"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-5"}, 404, "model_not_found", None),
        ({"voice": "nobody"}, 404, "voice_not_found", None),
        ({"voice": {"id": "nobody"}}, 404, "voice_not_found", None),
        ({"voice": "../../etc/passwd"}, 404, "voice_not_found", None),
        ({"instructions": "cheerful"}, 400, "unsupported_parameter", "instructions"),
        ({"speed": 5}, 422, "invalid_body", "speed"),
        ({"speed": "nan"}, 422, "invalid_body", "speed"),
        ({"response_format": "ogg"}, 422, "invalid_body", "response_format"),
        ({"stream_format": "ndjson"}, 422, "invalid_body", "stream_format"),
        ({"seed": -1}, 422, "invalid_body", "seed"),
        ({"seed": 2**64}, 422, "invalid_body", "seed"),
        ({"emotion": "sad"}, 422, "invalid_body", "emotion"),
        ({"input": 7}, 422, "invalid_body", "input"),
        ({"input": None}, 422, "invalid_body", "input"),
    ],
)
def test_a_wrong_field_is_refused_by_name(
    gateway: Any, fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    answer = gateway.speak("Hi.", **fields)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param)


def test_instructions_that_say_nothing_are_no_fault(gateway: Any) -> None:
    assert gateway.speak("Hi.", instructions="", voice={"id": "nova"}).status == 200


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"1" * 5000])
def test_a_body_that_is_no_object_is_the_callers_fault(gateway: Any, data: bytes) -> None:
    answer = gateway.call("/v1/audio/speech", data=data, method="POST")
    assert answer.status in (400, 422)
    assert answer.error["type"] == "invalid_request_error"


def test_a_deeply_nested_body_is_the_callers_fault(gateway: Any) -> None:
    answer = gateway.call("/v1/audio/speech", data=b"[" * 100_000)
    assert 400 <= answer.status < 500


def test_models_and_voices_are_listed(gateway: Any) -> None:
    models = gateway.call("/v1/models").json
    assert [model["id"] for model in models["data"]][:2] == ["duologue", "tts-1"]
    assert gateway.call("/v1/models/tts-1-hd").json["id"] == "tts-1-hd"
    assert gateway.call("/v1/models/none").error["code"] == "model_not_found"
    voices = gateway.call("/v1/audio/voices").json["data"]
    assert voices[0]["id"] == "default"
    assert {voice["id"] for voice in voices} >= {"alloy", "cedar"}


def test_unknown_paths_and_methods_are_answered_in_the_same_shape(gateway: Any) -> None:
    assert gateway.call("/v1/nothing").error["code"] == "not_found"
    answer = gateway.call("/v1/audio/speech", method="DELETE")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")


def test_a_caller_who_leaves_cancels_the_stream(gateway: Any) -> None:
    body = json.dumps({"model": "tts-1", "input": "hold", "response_format": "pcm"}).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = (
            f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        )
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
        stream = gateway.client.streams[-1]
        assert not stream.is_left
    wait_for(lambda: stream.is_left)
    assert not stream.is_whole


def test_a_caller_who_leaves_before_the_first_audio_cancels_too(gateway: Any) -> None:
    body = json.dumps({"model": "tts-1", "input": "never"}).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    before = len(gateway.client.streams)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = (
            f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        )
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        wait_for(lambda: len(gateway.client.streams) > before)
    wait_for(lambda: gateway.client.streams[-1].is_left)
    assert gateway.server.house.admission.num_running == 0
