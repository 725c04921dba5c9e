from __future__ import annotations

import base64
import io
import wave
from typing import Any

import pytest
from scripted_client import CHUNK, RATE_HZ


def synthesize(gateway: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"text": "你好。", "voice_id": "default", **fields}
    return gateway.call("/api/v1/tts/synthesize", body, headers=headers)


def num_frames(data: bytes) -> int:
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == RATE_HZ
        return file.getnframes()


def test_the_platforms_example_gives_a_whole_wav(gateway: Any) -> None:
    answer = synthesize(gateway, parameters={"speed": 1.0, "pitch": 1.0, "emotion": "neutral"})
    assert answer.headers["content-type"] == "audio/wav"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert num_frames(answer.body) == 3 * CHUNK
    assert gateway.asked[0] == "[S1]你好。"


def test_parameters_may_be_left_out_and_the_voice_be_empty(gateway: Any) -> None:
    assert synthesize(gateway, voice_id="").status == 200
    assert gateway.call("/api/v1/tts/synthesize", {"text": "Hi."}).status == 200
    assert synthesize(gateway, parameters={}).status == 200


def test_speed_and_pitch_are_honoured(gateway: Any) -> None:
    answer = synthesize(gateway, parameters={"speed": 2.0, "pitch": 1.3})
    assert num_frames(answer.body) == pytest.approx(3 * CHUNK / 2, rel=0.06)


def test_json_is_given_to_those_who_want_nothing_else(gateway: Any) -> None:
    answer = synthesize(gateway, {"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    assert num_frames(base64.b64decode(answer.json["audio_base64"])) == 3 * CHUNK


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"parameters": {"emotion": "happy"}}, 400, "unsupported_parameter"),
        ({"parameters": {"speed": 9}}, 422, "invalid_body"),
        ({"parameters": {"volume": 1}}, 422, "invalid_body"),
        ({"voice_id": "voice_001"}, 404, "voice_not_found"),
        ({"text": ""}, 400, "invalid_script"),
        ({"text": "crash"}, 500, "engine_error"),
    ],
)
def test_what_cannot_be_done_is_refused(
    gateway: Any, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = synthesize(gateway, **fields)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_voices_and_info_have_the_fields_of_the_platform(gateway: Any) -> None:
    voices = gateway.call("/api/v1/voices").json["voices"]
    assert set(voices[0]) == {"id", "name", "type"}
    assert voices[0]["id"] == "default"
    assert gateway.call("/api/v1/info").json["version"]
