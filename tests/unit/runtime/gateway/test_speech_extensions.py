"""What other open servers add to OpenAI's speech route."""

from __future__ import annotations

import base64
import http.client
import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import pytest
import soundfile
from live_gateway import Gateway, wait_for
from scripted_client import CHUNK, ScriptedClient, tone

from duologue.models import resolve_bundle
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("storage")
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": folder / "voices"},
        "cache": {"enabled": False},
    }
    client = ScriptedClient()
    settings = load_settings(flags=flags, environment={})
    bundle = resolve_bundle("noise")
    with GatewayServer(settings, client=client, bundle_dir=bundle, grace_s=2) as server:
        yield Gateway(server, client)


@pytest.fixture(scope="module")
def uri() -> str:
    file = io.BytesIO()
    soundfile.write(file, tone(0, 24_000 * 3), 24_000, format="WAV")
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_reference_audio_is_a_voice_for_one_request(gateway: Gateway, uri: str) -> None:
    fields = {"voice": "alloy", "ref_audio": uri, "ref_text": "Hello there."}
    assert gateway.speak("Hi.", **fields, task_type="Base", language="English").status == 200
    first = gateway.asked[1]["voices"][1]
    assert first.transcript == "Hello there."
    references = [{"audio_path": uri, "text": "Hello there."}]
    assert gateway.speak("Hi.", references=references).status == 200
    assert (gateway.asked[1]["voices"][1].codes == first.codes).all()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"ref_audio": "https://example.com/x.wav"}, 400, "unsupported_parameter"),
        ({"ref_audio": "file:///etc/passwd"}, 400, "unsupported_parameter"),
        ({"ref_audio": "/etc/passwd"}, 400, "unsupported_parameter"),
        ({"references": [{"audio_path": "/etc/passwd"}]}, 400, "unsupported_parameter"),
        ({"ref_audio": "data:audio/wav,RIFF"}, 400, "invalid_voice"),
        ({"ref_audio": "data:audio/wav;base64,!"}, 400, "invalid_voice"),
        ({"ref_audio": "data:audio/wav;base64,UklGRg=="}, 400, "invalid_voice"),
        ({"ref_text": "Hello."}, 400, "invalid_voice"),
        ({"task_type": "VoiceDesign"}, 400, "unsupported_parameter"),
        ({"task_type": "Sing"}, 422, "invalid_body"),
        ({"initial_codec_chunk_frames": 1}, 400, "unsupported_parameter"),
        ({"language": "French"}, 400, "unsupported_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    gateway: Gateway, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = gateway.speak("Hi.", **fields)
    assert (answer.status, answer.error["code"]) == (status, code)


def num_frames(data: str) -> int:
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        return file.getnframes()


def test_a_batch_answers_each_text_for_itself(gateway: Gateway) -> None:
    items = [
        {"input": "One.", "seed": 5},
        {"input": " "},
        {"input": "Three.", "response_format": "mp3", "voice": "nova"},
        {"input": "crash"},
    ]
    answer = gateway.call("/v1/audio/speech/batch", {"items": items, "speed": 2.0, "seed": 9}).json
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (4, 2, 2)
    assert [result["index"] for result in answer["results"]] == [0, 1, 2, 3]
    one, empty, three, crashed = answer["results"]
    assert (one["status"], one["media_type"]) == ("success", "audio/wav")
    assert num_frames(one["audio_data"]) == pytest.approx(3 * CHUNK / 2, rel=0.06)
    assert one["usage"]["total_tokens"] == 4 + 19
    assert three["media_type"] == "audio/mpeg"
    assert (empty["status"], empty["code"]) == ("error", "invalid_script")
    assert crashed["code"] == "engine_error"
    assert "secret" not in crashed["error"]
    seeds = {script: options["seed"] for script, options in gateway.client.asked[-3:]}
    assert (seeds["[S1]One."], seeds["[S1]Three."]) == (5, 9)


@pytest.mark.parametrize(
    "body",
    [{}, {"items": []}, {"items": [{"input": "a"}] * 33}, {"items": [{"text": "a"}]}],
)
def test_a_batch_that_is_none_is_refused(gateway: Gateway, body: dict[str, Any]) -> None:
    assert gateway.call("/v1/audio/speech/batch", body).status == 422


def test_a_caller_who_leaves_ends_the_batch(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    before = len(gateway.client.streams)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    body = json.dumps({"items": [{"input": "hold"}] * 8})
    connection.request("POST", "/v1/audio/speech/batch", body, {"Content-Type": "application/json"})
    wait_for(lambda: len(gateway.client.streams) == before + 4)
    connection.close()
    wait_for(lambda: all(stream.is_left for stream in gateway.client.streams))
    assert len(gateway.client.streams) == before + 4
    assert gateway.server.house.admission.num_running == 0


def test_the_items_of_a_batch_count_as_requests(open_gateway: Any) -> None:
    limit = {"enabled": True, "requests_per_minute": 1, "burst_size": 2}
    gateway = open_gateway({"rate_limit": limit})
    body = {"items": [{"input": "Hi."}] * 4}
    results = gateway.call("/v1/audio/speech/batch", body).json["results"]
    codes = sorted(result.get("code", "ok") for result in results)
    assert codes == ["ok", "ok", "rate_limit_exceeded", "rate_limit_exceeded"]
