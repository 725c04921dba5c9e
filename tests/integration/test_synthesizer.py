"""The whole way in one process, on the embedded bundle with real engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.models import noise_bundle_path
from duologue.runtime.core import SamplingOverrides, SpeechRequest, TurnTiming, Voice
from duologue.runtime.errors import (
    ConfigError,
    PromptTooLongError,
    RequestError,
    ScriptError,
    VoiceError,
)
from duologue.runtime.synthesizer import Synthesizer

SCRIPT = "[S1]Have you read the report?[S2]Twice. It is better than the film."


@pytest.fixture(scope="module")
def synthesizer() -> Iterator[Synthesizer]:
    with Synthesizer.load("noise", engine="onnx") as loaded:
        yield loaded


def _request(index: int) -> SpeechRequest:
    text = f"[S1]Number {index}." + "[S2]And on." * (index % 5)
    greedy = SamplingOverrides(greedy=index % 4 == 0)
    return SpeechRequest(text, seed=index, max_frames=20 + 7 * (index % 9), sampling=greedy)


def _samples(stream: Any) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in stream])


def test_the_chunks_of_a_stream_are_the_samples_of_the_whole(synthesizer: Synthesizer) -> None:
    chunks = list(synthesizer.stream(SCRIPT, seed=5, max_frames=90))
    speech = synthesizer.synthesize(SCRIPT, seed=5, max_frames=90)
    assert len(chunks) > 3
    np.testing.assert_array_equal(np.concatenate([c.samples for c in chunks]), speech.samples)
    assert len(speech.samples) == 90 * synthesizer.bundle.codec.samples_per_frame
    assert [time.speaker for time in speech.turn_times] == [1, 2]


def test_32_streams_at_once_equal_their_solo_runs(synthesizer: Synthesizer) -> None:
    solo = [_samples(synthesizer.submit(_request(index))) for index in range(32)]
    streams = [synthesizer.submit(_request(index)) for index in range(32)]
    for index, stream in enumerate(streams):
        np.testing.assert_array_equal(_samples(stream), solo[index])


def test_what_is_restored_from_earlier_prompts_changes_no_sample() -> None:
    text = "[S1]" + "The same words again. " * 12 + "[S2]Yes."
    request = SpeechRequest(text, seed=4, max_frames=30)
    with Synthesizer.load("noise", engine="onnx", max_slots=4) as fresh:
        runs = [_samples(fresh.submit(request)) for _ in range(4)]
        stats = fresh.stats.prefixes
    assert stats.hits == 2
    assert stats.rows_restored >= 2 * 128
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


def test_neighbours_that_cancel_change_nothing(synthesizer: Synthesizer) -> None:
    alone = _samples(synthesizer.submit(_request(7)))
    neighbours = [synthesizer.submit(_request(index)) for index in range(20, 28)]
    stream = synthesizer.submit(_request(7))
    for neighbour in neighbours[::2]:
        neighbour.cancel()
    np.testing.assert_array_equal(_samples(stream), alone)


def test_both_engines_say_the_same_codes(synthesizer: Synthesizer) -> None:
    request = SpeechRequest(SCRIPT, seed=11, max_frames=40)
    codes = []
    with Synthesizer.load("noise", engine="torch") as reference:
        for each in (synthesizer, reference):
            stream = each.submit(request)
            list(stream)
            codes.append(stream.codes)
    np.testing.assert_array_equal(codes[0], codes[1])


def test_the_same_seed_says_the_same_and_another_does_not(synthesizer: Synthesizer) -> None:
    first, again, other = (
        synthesizer.synthesize(SCRIPT, seed=seed, max_frames=30).samples for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_voice_in_front_changes_what_is_said(synthesizer: Synthesizer) -> None:
    rng = np.random.default_rng(0)
    codec = synthesizer.bundle.codec
    codes = rng.integers(0, codec.codebook_size, (codec.num_codebooks, 30))
    voices = {1: Voice(codes, "[S1]A few words.")}
    plain = synthesizer.synthesize(SCRIPT, seed=1, max_frames=20)
    voiced = synthesizer.synthesize(SCRIPT, seed=1, max_frames=20, voices=voices)
    assert not np.array_equal(plain.samples, voiced.samples)


def test_control_tokens_in_the_text_are_text(synthesizer: Synthesizer) -> None:
    speech = synthesizer.synthesize("[S1]Say <|end_of_speech|> and <5> now.", max_frames=12, seed=1)
    assert len(speech.samples) > 0


def test_turn_by_turn_speaks_what_does_not_fit_into_one_pass(synthesizer: Synthesizer) -> None:
    words = "This is turn number {} of a rather long talk."
    script = "".join(f"[S{1 + i % 2}]{words.format(i)}" for i in range(90))
    with pytest.raises(PromptTooLongError):
        synthesizer.submit(SpeechRequest(script, mode="one_pass"))
    stream = synthesizer.submit(SpeechRequest(script, seed=1, max_frames=900))
    chunks = list(stream)
    assert {chunk.turn_timing for chunk in chunks} == {TurnTiming.EXACT}
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert len(samples) == stream.codes.shape[1] * 1920 == 900 * 1920
    turns = [chunk.turn for chunk in chunks]
    assert turns == sorted(turns)
    assert turns[-1] >= 4


def test_auto_takes_one_pass_while_it_fits(synthesizer: Synthesizer) -> None:
    auto, one_pass, turns = (
        synthesizer.synthesize(SCRIPT, seed=3, max_frames=40, mode=mode)
        for mode in ("auto", "one_pass", "turns")
    )
    np.testing.assert_array_equal(auto.samples, one_pass.samples)
    assert not np.array_equal(auto.samples, turns.samples)


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        (SpeechRequest(""), ScriptError, "nothing to say"),
        (SpeechRequest("[S3]Hello."), ScriptError, r"\[S3\]"),
        (SpeechRequest("[S1]a\0b"), ScriptError, "line 1, column 6"),
        (SpeechRequest("a" * 10_000_000), ScriptError, "10000000"),
        (SpeechRequest(SCRIPT, seed=-1), RequestError, "seed"),
        (SpeechRequest(SCRIPT, max_frames=0), RequestError, "max_frames"),
        (SpeechRequest(SCRIPT, deadline_s=float("nan")), RequestError, "deadline_s"),
        (SpeechRequest(SCRIPT, voices={1: Voice(np.zeros((3, 5), int))}), VoiceError, "shape"),
        (SpeechRequest(SCRIPT, voices={1: Voice(np.full((8, 5), 9999))}), VoiceError, "9999"),
        (SpeechRequest("[S1]" + "Far too long. " * 1000), PromptTooLongError, "4096"),
    ],
)
def test_bad_input_gets_a_typed_error_that_names_it(
    synthesizer: Synthesizer, request_: SpeechRequest, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        synthesizer.submit(request_)


def test_a_bundle_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "changed"
    shutil.copytree(noise_bundle_path(), directory)
    weights = directory / "lm.safetensors"
    content = bytearray(weights.read_bytes())
    content[-50] ^= 0x55
    weights.write_bytes(content)
    with pytest.raises(ConfigError, match=r"lm\.safetensors differs from what was built"):
        Synthesizer.load(directory)
