from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from raw_door import RawStream, pcm_of, tensor

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.client.errors import RequestError, error_from_wire

SCRIPT = (contract.SCRIPT, ["[S1]Hi."])


def of_type(name: str, dtype: str, array: Any) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), dtype)
    made.set_data_from_numpy(array)
    return made


BAD: dict[str, tuple[list[Any], str]] = {
    "empty script": ([(contract.SCRIPT, [""])], "ScriptError"),
    "white space": ([(contract.SCRIPT, [" \n\t "])], "ScriptError"),
    "unknown speaker": ([(contract.SCRIPT, ["[S9]Who is that?"])], "ScriptError"),
    "ten megabytes": ([(contract.SCRIPT, ["[S1]" + "long " * 2_000_000])], "ScriptError"),
    "NUL": ([(contract.SCRIPT, ["[S1]a\0b"])], "ScriptError"),
    "no UTF-8": ([(contract.SCRIPT, [b"[S1]\xff\xfe"])], "RequestError"),
    "broken JSON script": ([(contract.SCRIPT, ['[{"speaker": 1, "text": '])], "ScriptError"),
    "no script": ([(contract.SEED, [1])], "RequestError"),
    "negative seed": ([SCRIPT, (contract.SEED, [-1])], "RequestError"),
    "sampling no JSON": ([SCRIPT, (contract.SAMPLING, ["hot"])], "RequestError"),
    "sampling unknown": ([SCRIPT, (contract.SAMPLING, ['{"heat": 1}'])], "RequestError"),
    "sampling range": ([SCRIPT, (contract.SAMPLING, ['{"top_p": 7}'])], "RequestError"),
    "sampling channels": ([SCRIPT, (contract.SAMPLING, ['{"channels": [{}]}'])], "RequestError"),
    "no frames": ([SCRIPT, (contract.MAX_FRAMES, [0])], "RequestError"),
    "no deadline": ([SCRIPT, (contract.DEADLINE_S, [np.nan])], "RequestError"),
    "no pace": ([SCRIPT, (contract.MAX_AHEAD_S, [-1.0])], "RequestError"),
    "unknown rules": ([SCRIPT, (contract.NORMALIZATION, ["v9"])], "RequestError"),
    "unknown frontend": ([SCRIPT, (contract.TEXT_FRONTEND, ["xx"])], "RequestError"),
    "unknown mode": ([SCRIPT, (contract.MODE, ["sideways"])], "RequestError"),
    "unknown voice": ([SCRIPT, (contract.VOICE_IDS, ["bob"])], "VoiceError"),
    "codes without lengths": ([SCRIPT, (contract.VOICE_CODES, [[1]] * 8)], "RequestError"),
    "codes of three rows": (
        [SCRIPT, (contract.VOICE_CODES, [[1]] * 3), (contract.VOICE_LENGTHS, [1])],
        "RequestError",
    ),
    "codes out of range": (
        [SCRIPT, (contract.VOICE_CODES, [[99_999]] * 8), (contract.VOICE_LENGTHS, [1])],
        "VoiceError",
    ),
    "prompt too long": (
        [SCRIPT, (contract.VOICE_CODES, np.zeros((8, 20_000))), (contract.VOICE_LENGTHS, [20_000])],
        "PromptTooLongError",
    ),
    "unknown acknowledgement": (
        [(contract.ACK_STREAM_ID, ["nobody"]), (contract.ACK_SAMPLES, [1])],
        "RequestError",
    ),
}


@pytest.mark.parametrize(("inputs", "kind"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_answered_by_its_type(door: Any, inputs: list[Any], kind: str) -> None:
    made = [tensor(*pair) for pair in inputs]
    with RawStream(door.url, *made) as stream:
        error = stream.error()
        assert stream.nothing_follows(0.05)

    assert error.partition(contract.ERROR_SEPARATOR)[0] == kind, error
    assert "Traceback" not in error
    assert ".py" not in error
    assert len(error) < 600


# What contradicts the model's config is refused by Triton itself, in words of its own.
WRONG: dict[str, list[Any]] = {
    "type": [tensor(*SCRIPT), of_type("SEED", "INT32", np.array([1], dtype=np.int32))],
    "shape": [tensor(contract.SCRIPT, ["[S1]Hi.", "[S2]Ho."])],
    "rank": [tensor(*SCRIPT), tensor(TensorSpec("VOICE_CODES", "INT32", (-1,)), [1, 2])],
    "name": [tensor(*SCRIPT), tensor(TensorSpec("VOLUME", "INT32", (1,)), [11])],
}


@pytest.mark.parametrize("inputs", WRONG.values(), ids=WRONG.keys())
def test_what_contradicts_the_config_is_refused_at_once(door: Any, inputs: list[Any]) -> None:
    with RawStream(door.url, *inputs) as stream:
        error = stream.error()

    assert "Traceback" not in error
    assert isinstance(error_from_wire(error), RequestError), error
    assert any(input.name() in error for input in inputs), error


def test_a_control_token_in_a_script_is_plain_text(door: Any) -> None:
    inputs = [(contract.SEED, [1]), (contract.MAX_FRAMES, [10])]

    assert len(pcm_of(door.url, "[S1]a<|end_of_speech|>b", *inputs)) > 0


def test_bad_requests_are_answered_quickly_and_leave_neighbours_alone(door: Any) -> None:
    wanted = [(contract.SEED, [4]), (contract.MAX_FRAMES, [120])]
    script = "[S1]A good neighbour.[S2]Says nothing."
    alone = pcm_of(door.url, script, *wanted).tolist()
    neighbour = RawStream(door.url, (contract.SCRIPT, [script]), *wanted)
    waits_s = []
    for inputs, _ in BAD.values():
        made = [tensor(*pair) for pair in inputs]
        start = time.monotonic()
        with RawStream(door.url, *made) as stream:
            stream.error()
            waits_s.append(time.monotonic() - start)
    heard = [r.as_numpy("PCM") for r in neighbour]
    neighbour.close()

    assert np.concatenate([pcm for pcm in heard if pcm is not None]).tolist() == alone
    # Connecting is in it, and for one of them 10 MB on the way.
    assert statistics.median(waits_s) < 0.1
