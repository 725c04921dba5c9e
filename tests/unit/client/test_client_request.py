# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from fake_grpc_server import read_inputs

from duologue.client import RequestError, SpeechOptions, Voice, contract
from duologue.client.request import build_ack, build_request
from duologue.client.types import SpeechKwargs


def inputs_of(script="[S1]a", **options):
    return read_inputs(build_request(script, SpeechOptions(**options)))


def test_plain_script_sends_nothing_that_the_server_decides():
    assert inputs_of("[S1]你好") == {
        "SCRIPT": ["[S1]你好"],
        "NORMALIZATION": ["none"],
        "TEXT_FRONTEND": ["none"],
        "MODE": ["auto"],
    }


def test_every_tensor_sent_is_in_the_contract_with_its_type():
    voices = {1: Voice(np.zeros((4, 3), np.int32)), 2: "anna"}
    options = SpeechOptions(
        voices, 1, True, 0.5, 5, 0.5, 1.5, "v0.7", "zh_en", "turns", 9, deadline_s=1, max_ahead_s=2
    )
    sent = [*build_request("a", options).inputs, *build_ack("s", 1).inputs]
    dtypes = {spec.name: spec.dtype for spec in contract.REQUEST_TENSORS}
    assert {tensor.name: tensor.datatype for tensor in sent} == dtypes


def test_numbers_arrive_as_they_were_given():
    inputs = inputs_of(seed=2**62 + 1, max_frames=50, deadline_s=1.5, max_ahead_s=10)
    assert inputs["SEED"].tolist() == [2**62 + 1]
    assert inputs["MAX_FRAMES"].tolist() == [50]
    assert inputs["DEADLINE_S"].tolist() == [1.5]
    assert inputs["MAX_AHEAD_S"].tolist() == [10.0]


def test_sampling_carries_only_what_changes():
    (text,) = inputs_of(greedy=True, top_k=0, temperature=0.5)["SAMPLING"]
    assert json.loads(text) == {"greedy": True, "top_k": 0, "temperature": 0.5}


def test_voices_lie_side_by_side_with_their_lengths():
    second, third = np.arange(8).reshape(2, 4), np.arange(6).reshape(2, 3)
    inputs = inputs_of(voices={3: Voice(third, "drei"), 2: Voice(second, "two")})
    assert inputs["VOICE_LENGTHS"].tolist() == [0, 4, 3]
    assert inputs["VOICE_TRANSCRIPTS"] == ["", "two", "drei"]
    assert np.array_equal(inputs["VOICE_CODES"], np.concatenate([second, third], axis=1))
    assert "VOICE_IDS" not in inputs


def test_named_voices_go_by_speaker():
    inputs = inputs_of(voices={2: "anna"})
    assert inputs["VOICE_IDS"] == ["", "anna"]
    assert "VOICE_CODES" not in inputs


def test_acknowledgement_is_nothing_but_that():
    inputs = read_inputs(build_ack("s-9", 48_000))
    assert inputs == {"ACK_STREAM_ID": ["s-9"], "ACK_SAMPLES": np.array([48_000])}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"seed": 2**70}, "SEED"),
        ({"seed": "soon"}, "SEED"),
        ({"max_frames": 0}, "max_frames"),
        ({"deadline_s": -1.0}, "deadline_s"),
        ({"max_ahead_s": float("nan")}, "max_ahead_s"),
        ({"voices": {0: "anna"}}, "speakers"),
    ],
)
def test_option_that_cannot_be_sent_is_refused_by_name(options, field):
    with pytest.raises(RequestError, match=field):
        inputs_of(**options)


def test_voices_of_different_codecs_are_refused():
    voices = {1: Voice(np.zeros((4, 3), np.int32)), 2: Voice(np.zeros((8, 3), np.int32))}
    with pytest.raises(RequestError, match=r"\[4, 8\] codebooks"):
        inputs_of(voices=voices)


def test_voice_codes_have_two_dimensions():
    with pytest.raises(RequestError, match=r"\[K, T\]"):
        Voice(np.zeros(3, np.int32))


def test_keyword_arguments_are_the_fields_of_the_options():
    fields = {field.name: field.type for field in dataclasses.fields(SpeechOptions)}
    keywords = {name: hint.__forward_arg__ for name, hint in SpeechKwargs.__annotations__.items()}
    assert keywords == fields
