# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from fake_house import FakeSpeaker, chunk
from hypothesis import given
from hypothesis import strategies as st

from duologue.cli.doors import Doors
from duologue.cli.tracks import split_tracks, timeline
from duologue.client import DialogueClient, HttpDialogueClient, RequestError, ScriptError, TurnTime

SCRIPT = "[S1]Hello.[S2]Hi."


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "far" / "tracks"


def say(house, folder, *arguments, script=SCRIPT):
    return house.run(
        "say",
        "--text",
        script,
        "-o",
        folder.parents[1] / "talk.wav",
        "--tracks",
        folder,
        *arguments,
    )


def two_turns():
    """A second and a half in which speaker 1 talks for the first half second."""
    last = chunk(2, is_last=True)
    times = (TurnTime(1, 0.0, 0.5), TurnTime(2, 0.5, 1.5))
    return [chunk(0), chunk(1), dataclasses.replace(last, turn_times=times)]


def test_each_speaker_has_a_track_that_is_silent_while_the_other_speaks(house, folder):
    house.client = FakeSpeaker([chunk(3, size=0), *two_turns()])
    result = say(house, folder)
    assert result.exit_code == 0, result.output
    whole, rate_hz = soundfile.read(folder.parents[1] / "talk.wav", dtype="int16")
    first, second = (soundfile.read(folder / f"S{i}.wav", dtype="int16") for i in (1, 2))
    assert (first[1], second[1]) == (rate_hz, rate_hz)
    assert first[0].tolist() == whole[:500].tolist() + [0] * 1000
    assert second[0].tolist() == [0] * 500 + whole[500:].tolist()
    assert f"{folder} holds S1.wav, S2.wav, timeline.json" in result.stderr


def test_timeline_names_turns_times_and_samples(house, folder):
    house.client = FakeSpeaker(two_turns())
    say(house, folder)
    assert json.loads((folder / "timeline.json").read_text()) == {
        "sample_rate_hz": 1000,
        "num_samples": 1500,
        "duration_s": 1.5,
        "seed": 7,
        "finish_reason": "stop",
        "turn_timing": "exact",
        "tracks": ["S1.wav", "S2.wav"],
        "turns": [
            {
                "speaker": "S1",
                "text": "Hello.",
                "start_s": 0.0,
                "end_s": 0.5,
                "first_sample": 0,
                "end_sample": 500,
            },
            {
                "speaker": "S2",
                "text": "Hi.",
                "start_s": 0.5,
                "end_s": 1.5,
                "first_sample": 500,
                "end_sample": 1500,
            },
        ],
    }


def test_stream_that_fails_leaves_no_tracks(house, folder):
    house.client = FakeSpeaker([chunk(0), ScriptError("no")])
    assert say(house, folder).exit_code == 2
    assert not folder.exists()


def test_tracks_cannot_lie_in_a_file(house, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("")
    assert house.run("say", "--text", SCRIPT, "--tracks", path).exit_code == 2
    assert house.urls == []


def test_texts_are_left_out_where_the_server_counts_other_turns():
    times = [TurnTime(1, 0.0, 1.0)]
    assert [turn.text for turn in timeline(SCRIPT, times, 10, 10)] == [None]
    assert [turn.text for turn in timeline(" ", times, 10, 10)] == [None]
    assert [turn.text for turn in timeline("Speaker 1: Hi.", times, 10, 10)] == ["Hi."]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=6
    ),
    st.integers(0, 400),
)
def test_tracks_of_one_length_add_up_to_the_whole(raw, num_samples):
    times = [TurnTime(speaker, start, end) for speaker, start, end in raw]
    samples = np.arange(1, num_samples + 1, dtype=np.int16)
    turns = timeline(SCRIPT, times, 100, num_samples)
    tracks = split_tracks(samples, turns)
    assert len(turns) == len(times)
    assert {"S1", "S2"} <= set(tracks)
    assert all(len(track) == num_samples for track in tracks.values())
    assert np.array_equal(sum(tracks.values()), samples)


def test_http_address_is_answered_by_the_http_client():
    connect = Doors().connect
    for url, kind in (("http://far:9000", HttpDialogueClient), ("far:8001", DialogueClient)):
        client = connect(url)
        assert type(client) is kind
        client.close()
        with pytest.raises(RequestError, match="API key"):
            connect(url, api_key="bad\nkey")


def test_key_comes_from_the_option_or_the_environment(house, folder):
    say(house, folder, "--server", "http://far:9000", "--api-key", "a")
    say(house, folder, "--server", "http://far:9000")
    env = {"DUOLOGUE_API_KEY": "b"}
    house.run("say", "--text", SCRIPT, "-o", folder.parents[1] / "b.wav", "--server", "x", env=env)
    assert house.keys == ["a", None, "b"]
