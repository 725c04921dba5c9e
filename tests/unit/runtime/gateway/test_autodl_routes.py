from __future__ import annotations

import struct
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from scripted_client import CHUNK, tone

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def tts(gateway: Any, headers: dict[str, str] | None = None, **fields: str) -> Any:
    data = urlencode(fields).encode()
    return gateway.call("/tts", data=data, headers={**FORM, **(headers or {})}, method="POST")


def test_a_form_is_answered_by_bare_samples(gateway: Any) -> None:
    answer = tts(gateway, text="你好。", speaker="")
    assert answer.headers["transfer-encoding"] == "chunked"
    np.testing.assert_array_equal(np.frombuffer(answer.body, "<i2"), WHOLE)
    assert gateway.asked[0] == "[S1]你好。"
    assert tts(gateway, text="Hi.", speaker="alloy").status == 200


def test_voxta_gets_wav_whose_length_is_open(gateway: Any) -> None:
    body = {"text": "Hi.", "speaker_wav": "default", "language": "en"}
    for path in ("/tts_to_audio", "/tts_to_audio/"):
        answer = gateway.call(path, body)
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.body[:4] == b"RIFF"
        assert struct.unpack("<I", answer.body[4:8]) == (0xFFFFFFFF,)
        assert struct.unpack("<I", answer.body[40:44])[0] > 0xFFFFFF00
        np.testing.assert_array_equal(np.frombuffer(answer.body[44:], "<i2"), WHOLE)


def test_voices_are_listed_in_both_shapes(gateway: Any) -> None:
    assert gateway.call("/api/speakers").json["speakers"][0] == "default"
    first = gateway.call("/speakers").json[0]
    assert (first["name"], first["voice_id"], first["lang"]) == ("default", "default", "zh, en")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/tts_to_audio", {"text": "Hi.", "speaker_wav": "../x.wav"}, 404, "voice_not_found"),
        ("/tts_to_audio", {"text": "Hi.", "language": "fr"}, 400, "unsupported_parameter"),
        ("/tts_to_audio", {"text": ""}, 400, "invalid_script"),
        ("/tts_to_audio", {"speaker_wav": "default"}, 422, "invalid_body"),
        ("/tts_to_audio", {"text": "full"}, 503, "server_full"),
    ],
)
def test_what_cannot_be_done_is_refused(
    gateway: Any, path: str, body: dict[str, str], status: int, code: str
) -> None:
    answer = gateway.call(path, body)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_a_form_of_another_sites_page_makes_nothing_speak(gateway: Any) -> None:
    before = len(gateway.client.asked)
    answer = tts(gateway, {"Origin": "https://elsewhere.example"}, text="Hi.")
    assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")
    assert len(gateway.client.asked) == before
    assert tts(gateway, {"Origin": gateway.url}, text="Hi.").status == 200


def test_a_key_is_asked_for_here_too(open_gateway: Any) -> None:
    gateway = open_gateway(auth={"keys": ["sk-1"]})
    assert tts(gateway, text="Hi.").status == 401
    assert gateway.call("/speakers").status == 401
    assert gateway.call("/api/speakers").status == 401
    assert tts(gateway, {"Authorization": "Bearer sk-1"}, text="Hi.").status == 200


@pytest.mark.parametrize("kind", ["Application/X-WWW-Form-URLencoded", "text/plain", ""])
def test_no_kind_of_body_that_pages_send_unasked_gets_around_it(gateway: Any, kind: str) -> None:
    headers = {"Origin": "https://elsewhere.example", "Content-Type": kind}
    for path, data in (("/tts", b"text=Hi."), ("/tts_to_audio", b'{"text": "Hi."}')):
        assert gateway.call(path, data=data, headers=headers).status == 403
    own = {"Origin": gateway.url, "Content-Type": "APPLICATION/JSON; charset=utf-8"}
    assert gateway.call("/tts_to_audio", {"text": "Hi."}, headers=own).status == 200
