from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime import audio
from duologue.runtime.errors import VoiceError

RESAMPLED = Path(__file__).parents[2] / "golden" / "data" / "resample.npz"


def test_every_16_bit_sample_survives_the_way_to_float_and_back() -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    assert np.array_equal(audio.to_int16(audio.to_float32(samples)), samples)


def test_loud_samples_are_clipped_and_halves_round_to_even() -> None:
    samples = np.array([2.0, -2.0, 0.5 / 32768, 1.5 / 32768], dtype=np.float32)
    assert audio.to_int16(samples).tolist() == [32767, -32768, 0, 2]


def test_mono_is_the_mean_of_the_channels() -> None:
    stereo = np.array([[1.0, 0.0], [0.0, -1.0]], dtype=np.float32)
    assert audio.mono(stereo).tolist() == [0.5, -0.5]
    assert audio.mono(stereo[:, 0]).tolist() == [1.0, 0.0]


@given(st.integers(1, 5000))
def test_fade_weights_sum_to_exactly_one(num_samples: int) -> None:
    rising = audio.fade_weights(num_samples)
    assert rising.dtype == np.float32
    assert np.all(rising + (np.float32(1) - rising) == np.float32(1))


def test_crossfade_leaves_equal_samples_as_they_are() -> None:
    samples = np.random.default_rng(0).standard_normal(999).astype(np.float32)
    assert np.array_equal(audio.crossfade(samples, samples), samples)


def test_crossfade_goes_from_one_side_to_the_other() -> None:
    zeros, ones = np.zeros(5, np.float32), np.ones(5, np.float32)
    assert audio.crossfade(ones, zeros).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [
        (44100, 16000),
        (48000, 16000),
        (8000, 16000),
        (22050, 16000),
        (24000, 16000),
        (16000, 24000),
        (11025, 16000),
    ],
)
def test_resampling_equals_torchaudio(from_hz: int, to_hz: int) -> None:
    with np.load(RESAMPLED) as golden:
        samples, wanted = golden[f"{from_hz}_{to_hz}_in"], golden[f"{from_hz}_{to_hz}_out"]
    made = audio.resample_sinc_hann(samples, from_hz, to_hz)
    assert made.shape == wanted.shape
    assert made.dtype == np.float32
    # torchaudio computes the angles of its kernel in float32: up to 2e-5 where many phases occur.
    np.testing.assert_allclose(made, wanted, atol=5e-5)


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    samples = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(audio.resample_sinc_hann(samples, 16000, 16000), samples)


def test_resampling_between_rates_without_a_common_divisor_needs_little_memory() -> None:
    samples = np.sin(np.arange(44101) * 2 * np.pi * 440 / 44101).astype(np.float32)
    made = audio.resample_sinc_hann(samples, 44101, 16000)
    wanted = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)
    np.testing.assert_allclose(made[100:-100], wanted[100:-100], atol=2e-3)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "message"),
    [
        (np.zeros(0, np.float32), 16000, "lasts 0.0 s"),
        (np.zeros((16000, 10), np.float32), 16000, "10 channels"),
        (np.zeros(16000, np.float32), 4000, "4000 Hz"),
        (np.zeros(16000, np.float32), 500_000, "500000 Hz"),
        (np.zeros(8000 * 3600 * 3, np.float32), 8000, "lasts 10800.0 s"),
        (np.full(16000, np.nan, np.float32), 16000, "not a number"),
        (np.full(16000, np.inf, np.float32), 16000, "infinite"),
        (np.zeros((2, 2, 2), np.float32), 16000, "shape"),
    ],
)
def test_audio_that_cannot_be_a_voice_is_refused(
    samples: audio.FloatArray, rate_hz: int, message: str
) -> None:
    with pytest.raises(VoiceError, match=message):
        audio.validate_reference_audio(samples, rate_hz)


def test_usual_audio_is_taken() -> None:
    audio.validate_reference_audio(np.zeros((44100, 2), np.float32), 44100)
