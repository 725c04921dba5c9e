from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from raw_door import pcm_of, tensor
from tritonclient.utils import InferenceServerException

from duologue.client import contract

SCRIPT = "[S1]One piece, please.[S2]With pleasure."
WANTED = [(contract.SEED, [21]), (contract.MAX_FRAMES, [50])]


def infer(url: str, model: str, *pairs: Any) -> triton.InferResult:
    with triton.InferenceServerClient(url) as client:
        return client.infer(model, [tensor(*pair) for pair in pairs])


@pytest.mark.parametrize("model", [contract.ENSEMBLE_MODEL, contract.WHOLE_MODEL])
def test_a_plain_call_gives_the_whole_dialogue(door: Any, model: str) -> None:
    result = infer(door.url, model, (contract.SCRIPT, [SCRIPT]), *WANTED)

    expected = pcm_of(door.url, SCRIPT, *WANTED)
    np.testing.assert_array_equal(result.as_numpy("PCM"), expected)
    assert result.as_numpy("SEED_USED").tolist() == [21]
    assert result.as_numpy("SAMPLE_RATE_HZ").tolist() == [24_000]
    assert result.as_numpy("TURN_SPEAKERS").tolist() == [1, 2]


def test_the_ensemble_takes_any_notation_and_voices(door: Any) -> None:
    voice = [
        (contract.VOICE_CODES, np.ones((8, 6))),
        (contract.VOICE_LENGTHS, [6]),
        (contract.VOICE_TRANSCRIPTS, ["Hm."]),
    ]
    script = "Ann: One piece, please.\nBob: With pleasure."

    result = infer(door.url, contract.ENSEMBLE_MODEL, (contract.SCRIPT, [script]), *WANTED, *voice)

    expected = pcm_of(door.url, SCRIPT, *WANTED, *voice)
    np.testing.assert_array_equal(result.as_numpy("PCM"), expected)


@pytest.mark.parametrize(
    ("pairs", "kind"),
    [
        ([(contract.SCRIPT, ["[S9]Who?"])], "ScriptError"),
        ([(contract.SCRIPT, [SCRIPT]), (contract.VOICE_IDS, ["bob"])], "VoiceError"),
        ([(contract.SCRIPT, [SCRIPT]), (contract.DEADLINE_S, [1e-6])], "DeadlineError"),
    ],
)
def test_errors_come_through_the_ensemble_with_their_types(
    door: Any, pairs: list[Any], kind: str
) -> None:
    with pytest.raises(InferenceServerException, match=f"{kind}: "):
        infer(door.url, contract.ENSEMBLE_MODEL, *pairs)


def test_plain_calls_run_side_by_side(door: Any) -> None:
    def speak(seed: int) -> Any:
        pairs = [(contract.SCRIPT, [SCRIPT]), (contract.SEED, [seed]), (contract.MAX_FRAMES, [40])]
        return infer(door.url, contract.ENSEMBLE_MODEL, *pairs).as_numpy("PCM")

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(speak, range(16)))

    for seed, pcm in enumerate(results):
        expected = pcm_of(door.url, SCRIPT, (contract.SEED, [seed]), (contract.MAX_FRAMES, [40]))
        np.testing.assert_array_equal(pcm, expected)


def post(url: str, body: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(url, data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_http_streams_events_that_are_json(door: Any) -> None:
    body = {"SCRIPT": SCRIPT, "SEED": 21, "MAX_FRAMES": 50}

    status, text = post(f"{door.http}/v2/models/dialogue_tts/generate_stream", body)

    assert status == 200
    events = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    pcm = [sample for event in events for sample in event["PCM"]]
    assert pcm == pcm_of(door.url, SCRIPT, *WANTED).tolist()
    assert events[-1]["IS_LAST"] is True
    assert events[-1]["FINISH_REASON"] in ("stop", "length")


def test_http_tells_errors_by_their_types(door: Any) -> None:
    url = f"{door.http}/v2/models/dialogue_tts/generate_stream"

    status, text = post(url, {"SCRIPT": "[S9]Who?"})

    assert status == 400
    assert "ScriptError: " in text


def test_http_infer_reaches_the_ensemble(door: Any) -> None:
    inputs = [
        {"name": "SCRIPT", "datatype": "BYTES", "shape": [1], "data": [SCRIPT]},
        {"name": "SEED", "datatype": "INT64", "shape": [1], "data": [21]},
        {"name": "MAX_FRAMES", "datatype": "INT32", "shape": [1], "data": [50]},
    ]

    status, text = post(f"{door.http}/v2/models/dialogue_ensemble/infer", {"inputs": inputs})

    assert status == 200
    outputs = {output["name"]: output["data"] for output in json.loads(text)["outputs"]}
    assert outputs["PCM"] == pcm_of(door.url, SCRIPT, *WANTED).tolist()


def test_the_codec_models_answer_plain_calls(door: Any) -> None:
    samples = np.sin(np.arange(16_000) / 20, dtype=np.float32)[np.newaxis]
    heard = triton.InferInput("SAMPLES", list(samples.shape), "FP32")
    heard.set_data_from_numpy(samples)
    with triton.InferenceServerClient(door.url) as client:
        codes = client.infer(contract.ENCODER_MODEL, [heard]).as_numpy("CODES")
        assert codes.shape[:2] == (1, 8)
        written = triton.InferInput("CODES", [2, 8, 5], "INT32")
        written.set_data_from_numpy(np.repeat(codes[:, :, :5], 2, axis=0))
        spoken = client.infer(contract.DECODER_MODEL, [written]).as_numpy("SAMPLES")
        assert spoken.shape == (2, 5 * 1920)
        np.testing.assert_array_equal(spoken[0], spoken[1])
        written.set_data_from_numpy(np.full((2, 8, 5), 5000, dtype=np.int32))
        with pytest.raises(InferenceServerException, match="RequestError: CODES holds codes"):
            client.infer(contract.DECODER_MODEL, [written])
