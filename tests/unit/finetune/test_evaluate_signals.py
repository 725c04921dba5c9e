"""Spectra, warping, pitch, speakers and clicks on signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.finetune.evaluate.borders import find_clicks, map_turns
from duologue.finetune.evaluate.dtw import dtw_distances, dtw_path
from duologue.finetune.evaluate.pitch import pitch_track
from duologue.finetune.evaluate.speakers import SpeakerClassifier, voice_features
from duologue.finetune.evaluate.spectrum import HOP_S, NUM_BANDS, log_mel
from duologue.finetune.evaluate.words import identify
from duologue.runtime.core import FloatArray, TurnTime

RATE_HZ = 16_000


def _hum(pitch_hz: float, seconds: float, rate_hz: int = RATE_HZ, tilt: float = 1.0) -> FloatArray:
    """A buzz of many harmonics, louder or softer towards the top."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    harmonics = range(1, int(3000 / pitch_hz))
    wave = sum(np.sin(2 * np.pi * h * pitch_hz * time_s) / h**tilt for h in harmonics)
    return (0.1 * np.asarray(wave)).astype(np.float32)


def _syllables(seed: int, count: int = 6) -> FloatArray:
    """Rows of spectra that change every few rows, as speech does."""
    generator = np.random.default_rng(seed)
    sounds = generator.standard_normal((count, 8))
    return np.repeat(sounds, generator.integers(3, 7, count), axis=0).astype(np.float32)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    low, high = (
        log_mel(np.sin(2 * np.pi * hertz * time_s).astype(np.float32), RATE_HZ).mean(axis=0)
        for hertz in (300, 3000)
    )
    assert low.shape == (NUM_BANDS,)
    assert low.argmax() < high.argmax()


@pytest.mark.parametrize("num_samples", [0, 1, 700])
def test_short_and_silent_audio_has_a_finite_spectrum(num_samples: int) -> None:
    mel = log_mel(np.zeros(num_samples, dtype=np.float32), RATE_HZ)
    assert len(mel) >= 1
    assert np.isfinite(mel).all()


def _slow_distance(query: FloatArray, reference: FloatArray) -> float:
    """The definition, cell by cell."""
    costs = np.sqrt(np.square(query[:, None] - reference[None]).mean(axis=-1))
    totals = np.full(costs.shape, np.inf)
    totals[0, 0] = 2 * costs[0, 0]
    for t, r in np.ndindex(*costs.shape):
        if t:
            totals[t, r] = min(totals[t, r], totals[t - 1, r] + costs[t, r])
        if r:
            totals[t, r] = min(totals[t, r], totals[t, r - 1] + costs[t, r])
        if t and r:
            totals[t, r] = min(totals[t, r], totals[t - 1, r - 1] + 2 * costs[t, r])
    return float(totals[-1, -1] / sum(costs.shape))


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_diagonals_give_what_the_definition_says(sizes: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    clips = [generator.standard_normal((size, 3)).astype(np.float32) for size in sizes]
    distances = dtw_distances(clips[0], clips[1:])
    for distance, clip in zip(distances, clips[1:], strict=True):
        assert distance == pytest.approx(_slow_distance(clips[0], clip), abs=1e-3)


def test_speech_at_another_pace_is_still_identified() -> None:
    references = [_syllables(seed) for seed in range(12)]
    generator = np.random.default_rng(1)
    spoken = [np.repeat(mel, 2, axis=0)[::1] + generator.normal(0, 0.2) for mel in references]
    assert identify(spoken, references).share_right == 1
    swapped = [references[1], references[0], *references[2:]]
    assert identify(swapped, references).share_right == pytest.approx(10 / 12)


def test_a_path_joins_both_ends_and_never_goes_back() -> None:
    reference = _syllables(3)
    path = dtw_path(np.repeat(reference, 3, axis=0), reference)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [3 * len(reference) - 1, len(reference) - 1]
    assert (np.diff(path, axis=0) >= 0).all()


def test_borders_of_turns_follow_the_pace() -> None:
    reference = _syllables(4)
    border_s = 10 * HOP_S
    turns = (TurnTime(1, 0.0, border_s), TurnTime(2, border_s, len(reference) * HOP_S))
    mapped = map_turns(np.repeat(reference, 2, axis=0), reference, turns)
    assert [turn.speaker for turn in mapped] == [1, 2]
    assert mapped[1].start_s == pytest.approx(2 * border_s, abs=0.12)


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
@pytest.mark.parametrize("pitch_hz", [90.0, 133.0, 210.0, 300.0])
def test_the_pitch_of_a_hum_is_found(pitch_hz: float, rate_hz: int) -> None:
    pitch = pitch_track(_hum(pitch_hz, 0.5, rate_hz), rate_hz)
    assert float(np.median(pitch)) == pytest.approx(pitch_hz, rel=0.03)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    assert (pitch_track(noise, RATE_HZ) == 0).mean() > 0.9
    assert not pitch_track(np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ).any()
    assert len(pitch_track(noise[:10], RATE_HZ)) == 0


def test_voices_are_told_apart_by_pitch_and_by_timbre() -> None:
    kinds = {"low": (100.0, 1.0), "high": (200.0, 1.0), "low and sharp": (100.0, 0.3)}
    clips = [
        (name, voice_features(_hum(pitch * detune, 0.4, tilt=tilt), RATE_HZ))
        for name, (pitch, tilt) in kinds.items()
        for detune in (0.97, 1.0, 1.03)
    ]
    classifier = SpeakerClassifier.fit([f for _, f in clips], [name for name, _ in clips])
    for name, (pitch, tilt) in kinds.items():
        features = voice_features(0.5 * _hum(pitch * 1.01, 0.6, tilt=tilt), RATE_HZ)
        assert classifier.classify(features) == name
    assert classifier.classify(features, among=("low", "high")) == "low"


def test_a_jump_at_a_border_is_a_click_and_a_smooth_border_is_none() -> None:
    wave = _hum(120, 1.0)
    assert find_clicks(wave, RATE_HZ, [4000, 8000]) == []
    broken = np.concatenate([wave[:8000], wave[8000:] + 0.3])
    assert find_clicks(broken, RATE_HZ, [4000, 8000]) == [8000]
