"""One suite over all four clients: sync and asyncio, over gRPC and through the gateway's HTTP."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from live_gateway import Gateway
from typer.testing import CliRunner

from duologue.cli.doors import Doors
from duologue.cli.main import app
from duologue.client import DialogueClient, Speech, Voice
from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."
LONG = "[S1]" + "And so on. " * 80
LONG_FRAMES = 1500


@pytest.fixture(scope="module")
def expected(door: Any) -> Speech:
    with DialogueClient(door.url) as client:
        return client.synthesize(SCRIPT, seed=11, max_frames=40)


@pytest.fixture(scope="module")
def reference() -> tuple[np.ndarray[Any, Any], int]:
    """Reference audio [N] as int16, and its rate in Hz."""
    rate_hz = Bundle.load(noise_bundle_path()).codec.input_rate_hz
    time_s = np.arange(rate_hz) / rate_hz
    return np.round(9000 * np.sin(2 * np.pi * 220 * time_s)).astype(np.int16), rate_hz


@pytest.fixture(scope="module")
def voice(door: Any, reference: tuple[np.ndarray[Any, Any], int]) -> Voice:
    """The reference as codes, and what is said in it."""
    with DialogueClient(door.url) as client:
        codes = client.encode((reference[0] / 32768).astype(np.float32))
    return Voice(codes, "What I said.")


@pytest.fixture(scope="module")
def uploaded(client_gateway: Gateway, reference: tuple[np.ndarray[Any, Any], int]) -> str:
    """The name of the same voice at the gateway, which was given the audio."""
    file = io.BytesIO()
    soundfile.write(file, *reference, format="WAV", subtype="PCM_16")
    answer = httpx.post(
        f"{client_gateway.url}/v1/audio/voices",
        data={"name": "anna", "consent": "yes", "transcript": "What I said."},
        files={"audio_sample": ("anna.wav", file.getvalue(), "audio/wav")},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    return "anna"


def test_the_same_script_and_seed_give_the_same_samples(
    connect_client: Any, expected: Speech
) -> None:
    speech = connect_client().synthesize(SCRIPT, seed=11, max_frames=40)
    np.testing.assert_array_equal(speech.samples, expected.samples)
    assert (speech.sample_rate_hz, speech.seed) == (expected.sample_rate_hz, 11)
    assert speech.finish_reason == expected.finish_reason


def test_chunks_join_without_gaps_and_the_last_one_is_marked(
    connect_client: Any, expected: Speech
) -> None:
    chunks = connect_client().chunks(SCRIPT, seed=11, max_frames=40)
    assert len(chunks) > 2
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    ends = [0, *(chunk.end_sample for chunk in chunks)]
    assert [chunk.first_sample for chunk in chunks] == ends[:-1]
    assert ends[-1] == len(expected.samples)
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.turn_timing for chunk in chunks} == {"estimated"}
    assert {chunk.stream_id for chunk in chunks} != {""}
    assert (chunks[0].turn, chunks[-1].turn, chunks[-1].speaker) == (0, 1, 2)


def test_turn_times_are_equal(connect_client: Any, expected: Speech) -> None:
    times = connect_client().synthesize(SCRIPT, seed=11, max_frames=40).turn_times
    assert [time.speaker for time in times] == [1, 2]
    got = [(time.start_s, time.end_s) for time in times]
    want = [(time.start_s, time.end_s) for time in expected.turn_times]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_turn_by_turn_gives_exact_times(connect_client: Any) -> None:
    chunks = connect_client().chunks(SCRIPT, seed=5, mode="turns", max_frames=40)
    assert {chunk.turn_timing for chunk in chunks} == {"exact"}


def test_sampling_options_arrive(connect_client: Any, door: Any, expected: Speech) -> None:
    options = {"greedy": True, "repetition_penalty": 1.5, "max_frames": 30, "normalization": "v0.7"}
    speech = connect_client().synthesize(SCRIPT, **options)
    with DialogueClient(door.url) as client:
        np.testing.assert_array_equal(speech.samples, client.synthesize(SCRIPT, **options).samples)


def test_a_voice_of_ones_own_is_the_same_through_every_door(
    connect_client: Any, door: Any, voice: Voice, expected: Speech
) -> None:
    options = {"voices": {2: voice}, "seed": 11, "max_frames": 40}
    speech = connect_client().synthesize(SCRIPT, **options)
    with DialogueClient(door.url) as client:
        np.testing.assert_array_equal(speech.samples, client.synthesize(SCRIPT, **options).samples)
    assert not np.array_equal(speech.samples, expected.samples)


@pytest.mark.parametrize("client_kind", ["http", "http-asyncio"])
def test_a_voice_that_was_uploaded_sounds_as_its_codes_do(
    connect_client: Any, door: Any, voice: Voice, uploaded: str
) -> None:
    named = connect_client().synthesize(SCRIPT, voices={2: uploaded}, seed=11, max_frames=40)
    with DialogueClient(door.url) as client:
        given = client.synthesize(SCRIPT, voices={2: voice}, seed=11, max_frames=40)
    np.testing.assert_array_equal(named.samples, given.samples)


def test_leaving_early_frees_the_slot(connect_client: Any, door: Any) -> None:
    cancelled = "duologue_cancellations_total"
    before = door.metrics()[cancelled]
    assert len(connect_client().chunks(LONG, take=1, max_frames=LONG_FRAMES)) == 1
    door.wait_until(lambda metrics: metrics[cancelled] == before + 1)
    door.wait_until_idle()


def test_say_speaks_through_the_gateway_and_takes_the_speakers_apart(
    client_gateway: Gateway, tmp_path: Path, expected: Speech
) -> None:
    out, folder = tmp_path / "talk.wav", tmp_path / "tracks"
    arguments = ["say", "--text", SCRIPT, "--seed", "11", "--max-frames", "40", "-o", str(out)]
    arguments += ["--server", client_gateway.url, "--tracks", str(folder)]
    result = CliRunner().invoke(app, arguments, obj=Doors())
    assert result.exit_code == 0, result.output
    whole, first, second = (
        soundfile.read(path, dtype="int16")[0]
        for path in (out, folder / "S1.wav", folder / "S2.wav")
    )
    np.testing.assert_array_equal(whole, expected.samples)
    np.testing.assert_array_equal(first + second, whole)
    border = json.loads((folder / "timeline.json").read_text())["turns"][1]["first_sample"]
    assert not first[border:].any()
    assert not second[:border].any()


def test_ready_and_sample_rate_are_told(connect_client: Any, expected: Speech) -> None:
    client = connect_client()
    assert client.is_ready()
    assert client.sample_rate_hz() == expected.sample_rate_hz
