from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from scripted_client import CHUNK, RATE_HZ, tone

from duologue.runtime.gateway.subtitles import write_subtitles
from duologue.runtime.gateway.turns import Segment, SourceTurn, turns_of_script

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])
SCRIPT = "[S1] Tea?\n[S2]: Coffee, please. "
INPUTS = [{"voice": "nova", "text": "Tea?"}, {"voice_id": "echo", "text": "Coffee, please."}]


@pytest.mark.parametrize("form", ["sse", "ndjson"])
def test_a_script_comes_back_with_the_times_and_places_of_its_turns(
    gateway: Any, form: str
) -> None:
    answer = gateway.talk(
        input=SCRIPT, response_format="pcm", stream_format=form, voices={"2": "echo"}
    )
    *deltas, done = answer.events if form == "sse" else answer.lines

    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), WHOLE)
    assert [event["turn"] for event in deltas] == [0, 1, 1]
    assert [event["start_time_seconds"] for event in deltas] == [0.0, 0.5, 1.0]
    first, second = done["voice_segments"]
    assert (first["voice_id"], second["voice_id"]) == ("default", "echo")
    assert (second["start_time_seconds"], second["end_time_seconds"]) == (0.5, 1.5)
    assert second["timing"] == "estimated"
    said = [SCRIPT[s["character_start_index"] : s["character_end_index"]] for s in (first, second)]
    assert said == ["Tea?", "Coffee, please."]
    assert (done["duration_seconds"], done["finish_reason"], done["seed"]) == (1.5, "stop", 7)


def test_inputs_become_turns_in_which_nothing_is_a_tag(gateway: Any) -> None:
    answer = gateway.talk(inputs=INPUTS, stream_format="ndjson", response_format="opus")
    script, options = gateway.asked
    assert json.loads(script) == [
        {"speaker": 1, "text": "Tea?"},
        {"speaker": 2, "text": "Coffee, please."},
    ]
    assert options["voices"] == {}
    segments = answer.lines[-1]["voice_segments"]
    assert [s["dialogue_input_index"] for s in segments] == [0, 1]
    assert [s["voice_id"] for s in segments] == ["nova", "echo"]
    joined = "Tea?Coffee, please."
    last = segments[1]
    assert joined[last["character_start_index"] : last["character_end_index"]] == "Coffee, please."


def test_one_voice_is_one_speaker(gateway: Any) -> None:
    gateway.talk(turns=[{"text": "a"}, {"voice": "echo", "text": "b"}, {"text": "c"}])
    assert [turn["speaker"] for turn in json.loads(gateway.asked[0])] == [1, 2, 1]


def test_a_script_in_another_notation_has_times_and_no_places(gateway: Any) -> None:
    answer = gateway.talk(script="Alice: Tea?\nBob: Coffee.", stream_format="ndjson")
    assert gateway.asked[0] == "Alice: Tea?\nBob: Coffee."
    segment = answer.lines[-1]["voice_segments"][1]
    assert segment["end_time_seconds"] == 1.5
    assert segment["character_start_index"] is None


def test_a_voice_may_come_as_codes(gateway: Any) -> None:
    codes = {"codes": [[1, 2, 3], [4, 5, 6]], "transcript": "Hello."}
    answer = gateway.talk(input=SCRIPT, voices={"1": codes}, stream_format="ndjson")
    voice = gateway.asked[1]["voices"][1]
    assert voice.codes.tolist() == codes["codes"]
    assert voice.transcript == "Hello."
    assert answer.lines[-1]["voice_segments"][0]["voice_id"] == "codes"


def test_a_callers_own_limits_reach_the_model_and_never_widen_the_servers(gateway: Any) -> None:
    gateway.talk(input=SCRIPT, deadline_s=20, max_ahead_s=2, mode="turns")
    options = gateway.asked[1]
    assert (options["deadline_s"], options["max_ahead_s"]) == (20, 2)
    assert options["mode"] == "turns"
    gateway.talk(input=SCRIPT, deadline_s=1e9, max_ahead_s=1e9)
    options = gateway.asked[1]
    assert (options["deadline_s"], options["max_ahead_s"]) == (300, 10)


def test_times_scale_with_the_speed(gateway: Any) -> None:
    answer = gateway.talk(input=SCRIPT, stream_format="ndjson", speed=2.0)
    done = answer.lines[-1]
    assert done["voice_segments"][1]["end_time_seconds"] == 0.75
    assert done["duration_seconds"] == 0.75


def test_the_audio_alone_in_a_rate_of_choice(gateway: Any) -> None:
    answer = gateway.talk(input=SCRIPT, response_format="pcm", sample_rate=8000)
    assert answer.headers["x-sample-rate"] == "8000"
    assert len(answer.body) / 2 == pytest.approx(len(WHOLE) * 8000 / RATE_HZ, abs=2)


@pytest.mark.parametrize(("form", "start"), [("srt", "1\n00:00:00,000"), ("vtt", "WEBVTT\n\n1\n")])
def test_subtitles_come_alone_or_with_the_last_event(gateway: Any, form: str, start: str) -> None:
    alone = gateway.talk(input=SCRIPT, response_format=form).body.decode()
    assert alone.startswith(start)
    assert "Coffee, please." in alone
    with_audio = gateway.talk(input=SCRIPT, stream_format="ndjson", subtitles=form)
    assert with_audio.lines[-1]["subtitles"] == alone


def test_text_of_a_cue_cannot_break_out_of_it() -> None:
    source = SourceTurn("a\n\n2\n00:00:00,000 --> 00:00:09,000\n<b>x</b>", 0, 1)
    segment = Segment("default", 1, 3661.0015, 3662.0, "estimated", source)
    srt = write_subtitles("srt", [segment])
    assert srt.count("\n") == 4
    assert srt.startswith("1\n01:01:01,002 --> 01:01:02,000\nS1: a 2")
    assert srt.count("-->") == 1
    vtt = write_subtitles("vtt", [segment])
    assert "<b>" not in vtt
    assert vtt.count("-->") == 1


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        ("[S1]", []),
        ("Lead.[S1]One.", ["Lead.", "One."]),
        ("(s1) One. （S2）：Two.", ["One.", "Two."]),
        ("[S1] [S2]Two.", ["Two."]),
        ("no tags", []),
    ],
)
def test_turns_of_a_script_are_those_of_the_server(script: str, texts: list[str]) -> None:
    turns = turns_of_script(script)
    assert [turn.text for turn in turns] == texts
    assert [script[turn.char_start : turn.char_end] for turn in turns] == texts


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"input": "a", "inputs": INPUTS}, 400, "invalid_request"),
        ({"inputs": INPUTS, "voices": {"1": "nova"}}, 400, "invalid_request"),
        ({"inputs": [{"voice": "nobody", "text": "a"}]}, 404, "voice_not_found"),
        ({"input": "a", "voices": {"1": "nobody"}}, 404, "voice_not_found"),
        ({"input": "a", "voices": {"0": "nova"}}, 422, "invalid_body"),
        ({"input": "a", "voices": {"x": "nova"}}, 422, "invalid_body"),
        ({"inputs": [{"text": ""}]}, 422, "invalid_body"),
        ({"inputs": [{"text": " "}]}, 400, "invalid_script"),
        ({"inputs": [{"text": "a"}] * 1001}, 422, "invalid_body"),
        ({"input": "a", "sample_rate": 12345}, 422, "invalid_body"),
        ({"input": "a", "voices": {"1": {"codes": [[1], [1, 2]]}}}, 400, "invalid_voice"),
        ({"input": "a", "voices": {"1": {"codes": [[2**31]]}}}, 422, "invalid_body"),
        ({"input": "a", "voices": {"1": {"codes": []}}}, 422, "invalid_body"),
        ({"input": "a", "deadline_s": 0}, 422, "invalid_body"),
        ({"input": "a", "pitch": 3}, 422, "invalid_body"),
        ({"input": "a", "model": "none"}, 404, "model_not_found"),
        ({"input": "refuse"}, 400, "invalid_script"),
    ],
)
def test_wrong_bodies_are_refused(
    gateway: Any, body: dict[str, Any], status: int, code: str
) -> None:
    answer = gateway.talk(**body)
    assert (answer.status, answer.error["code"]) == (status, code)
