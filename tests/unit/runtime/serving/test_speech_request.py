from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fake_triton import request
from fakes import BUNDLE
from hypothesis import given
from hypothesis import strategies as st

from duologue.client import contract
from duologue.runtime.core import ChannelSampling, SamplingOverrides, SpeechRequest
from duologue.runtime.errors import DuologueError, RequestError, ScriptError, VoiceError
from duologue.runtime.serving.request import read_request
from duologue.runtime.serving.sampling import read_sampling
from duologue.runtime.serving.tensors import RequestTensors

SCRIPT = (contract.SCRIPT, ["[S1]Hi.[S2]Ho."])
K = BUNDLE.codec.num_codebooks


def read(*pairs: Any) -> SpeechRequest:
    return read_request(RequestTensors(request(*pairs)), BUNDLE)


def test_a_script_alone_leaves_all_else_to_the_bundle() -> None:
    got = read(SCRIPT)

    assert got.script == "[S1]Hi.[S2]Ho."
    assert got.voices == {}
    assert got.sampling == SamplingOverrides()
    assert (got.seed, got.max_frames, got.deadline_s, got.max_ahead_s) == (None,) * 4
    assert (got.normalization, got.text_frontend) == ("none", "none")


def test_all_options_are_read() -> None:
    got = read(
        SCRIPT,
        (contract.SEED, [2**63 - 1]),
        (contract.SAMPLING, ['{"temperature": 0.5, "top_k": 3}']),
        (contract.NORMALIZATION, ["v0.7"]),
        (contract.TEXT_FRONTEND, ["zh_en"]),
        (contract.MAX_FRAMES, [5]),
        (contract.DEADLINE_S, [1.5]),
        (contract.MAX_AHEAD_S, [2.5]),
    )

    assert got.seed == 2**63 - 1
    assert got.sampling == SamplingOverrides(temperature=0.5, top_k=3)
    assert (got.normalization, got.text_frontend) == ("v0.7", "zh_en")
    assert (got.max_frames, got.deadline_s, got.max_ahead_s) == (5, 1.5, 2.5)


def test_voices_are_split_by_speaker() -> None:
    codes = np.arange(K * 5).reshape(K, 5) % BUNDLE.codec.codebook_size

    got = read(
        SCRIPT,
        (contract.VOICE_IDS, ["", "default"]),
        (contract.VOICE_CODES, codes),
        (contract.VOICE_LENGTHS, [0, 5]),
        (contract.VOICE_TRANSCRIPTS, ["", "Good day."]),
    )

    assert set(got.voices) == {2}
    np.testing.assert_array_equal(got.voices[2].codes, codes)
    assert got.voices[2].transcript == "Good day."


def test_names_of_voices_are_handed_on_by_speaker() -> None:
    got = read(SCRIPT, (contract.VOICE_IDS, ["", "女性温柔"]))

    assert got.voice_ids == {2: "女性温柔"}
    assert got.voices == {}


def codes(rows: int = K, frames: int = 4, value: int = 0) -> Any:
    return contract.VOICE_CODES, np.full((rows, frames), value)


@pytest.mark.parametrize(
    ("pairs", "kind", "told"),
    [
        ([], RequestError, "SCRIPT is missing"),
        ([(contract.SCRIPT, ["a", "b"])], RequestError, r"SCRIPT has shape \[2\]; allowed: \[1\]"),
        ([(contract.SCRIPT, [b"a\xff"])], RequestError, "SCRIPT holds the byte 0xff at place 1"),
        ([(contract.SCRIPT, ["x" * 200_001])], ScriptError, "200001 bytes; allowed: at most"),
        ([SCRIPT, (contract.SEED, [-1])], RequestError, "SEED is -1; allowed: 0 or more"),
        ([SCRIPT, (contract.SEED, [1, 2])], RequestError, r"SEED has shape \[2\]"),
        ([SCRIPT, (contract.MAX_FRAMES, [0])], RequestError, "MAX_FRAMES is 0; allowed: 1"),
        ([SCRIPT, (contract.DEADLINE_S, [0.0])], RequestError, "DEADLINE_S is 0; allowed"),
        ([SCRIPT, (contract.DEADLINE_S, [np.nan])], RequestError, "DEADLINE_S is nan"),
        ([SCRIPT, (contract.MAX_AHEAD_S, [np.inf])], RequestError, "MAX_AHEAD_S is inf"),
        ([SCRIPT, (contract.NORMALIZATION, ["v9"])], RequestError, "'v9'; allowed: none, v0.7"),
        ([SCRIPT, (contract.TEXT_FRONTEND, ["xx"])], RequestError, "'xx'; allowed: none, zh_en"),
        ([SCRIPT, codes()], RequestError, "VOICE_CODES needs VOICE_LENGTHS"),
        ([SCRIPT, (contract.VOICE_LENGTHS, [4])], RequestError, "need VOICE_CODES"),
        ([SCRIPT, codes(), (contract.VOICE_LENGTHS, [3])], RequestError, "sum is the 4 frames"),
        ([SCRIPT, codes(), (contract.VOICE_LENGTHS, [5, -1])], RequestError, "sum is the 4"),
        ([SCRIPT, codes(), (contract.VOICE_LENGTHS, [])], RequestError, "sum is the 4 frames"),
        ([SCRIPT, codes(), (contract.VOICE_LENGTHS, [2, 1, 1])], RequestError, "at most 2"),
        ([SCRIPT, codes(3), (contract.VOICE_LENGTHS, [4])], RequestError, f"allowed: {K} codebo"),
        ([SCRIPT, codes(value=16), (contract.VOICE_LENGTHS, [4])], VoiceError, "allowed: 0 to 15"),
        ([SCRIPT, codes(value=-1), (contract.VOICE_LENGTHS, [4])], VoiceError, "allowed: 0 to 15"),
        (
            [
                SCRIPT,
                codes(),
                (contract.VOICE_LENGTHS, [4]),
                (contract.VOICE_TRANSCRIPTS, ["a", "b"]),
            ],
            RequestError,
            "VOICE_TRANSCRIPTS has 2 entries; allowed: 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    pairs: list[Any], kind: type[DuologueError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        read(*pairs)


def test_a_tensor_of_the_wrong_type_is_refused() -> None:
    wrong = contract.TensorSpec("SEED", "INT32", (1,))

    with pytest.raises(RequestError, match="SEED has type int32; allowed: INT64"):
        read(SCRIPT, (wrong, [1]))


def test_channels_of_a_sampling_are_read() -> None:
    text = '{"greedy": false, "channels": [{"do_sample": true, "top_p": 1}, {"top_k": null}]}'

    got = read_sampling(text)

    assert got.channels == (ChannelSampling(top_p=1), ChannelSampling())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("[]", "allowed: an object"),
        ("{", "no JSON"),
        ("[" * 10_000, "no JSON"),
        ("9" * 20_000, "allowed: at most 16384"),
        ('{"temperature": NaN}', "NaN is no JSON number"),
        ('{"temperature": 1e999}', "a finite number"),
        ('{"temperature": "1"}', "a finite number"),
        ('{"temperature": true}', "a finite number"),
        ('{"top_k": 1.5}', "a whole number"),
        ('{"top_k": true}', "a whole number"),
        ('{"greedy": 1}', "true or false"),
        ('{"tempreature": 1}', "unknown fields"),
        ('{"channels": {}}', "a list of objects"),
        ('{"channels": [1]}', r"channels\[0\] is 1; allowed: an object"),
        ('{"channels": [{"greedy": true}]}', r"channels\[0\] has unknown fields"),
    ],
)
def test_a_faulty_sampling_is_refused(text: str, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        read_sampling(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.sampled_from(["greedy", "temperature", "top_k", "top_p", "channels", "x"])


@given(
    st.text() | json_values.map(json.dumps) | st.dictionaries(names, json_values).map(json.dumps)
)
def test_any_text_gives_a_sampling_or_a_request_error(text: str) -> None:
    try:
        got: SamplingOverrides | RequestError = read_sampling(text)
    except RequestError as error:
        got = error

    assert isinstance(got, SamplingOverrides) or len(str(got)) < 1000
