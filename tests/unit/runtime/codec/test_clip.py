from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.codec.clip import check_codes, check_samples, join_codes, split_clip
from duologue.runtime.config import CodecConfig
from duologue.runtime.errors import EngineError, VoiceError

CONFIG = CodecConfig("any", 16000, 24000, 1280, 1920, 8, 1024, 375)
SMALL = CodecConfig("any", 16, 24, 4, 6, 2, 10, 60)
"""4 frames per second, windows of 15 s at every 5 s."""


def test_clip_of_25_seconds_takes_two_windows() -> None:
    first, second = split_clip(np.zeros(25 * 16000, np.float32), CONFIG)
    assert (first.num_frames, first.num_samples) == (250, 25 * 16000)
    assert (second.num_frames, second.num_samples) == (62, 5 * 16000)


def test_long_clip_takes_windows_of_30_seconds_at_every_20() -> None:
    windows = split_clip(np.zeros(70 * 16000, np.float32), CONFIG)
    assert [w.num_samples // 16000 for w in windows] == [30, 30, 30, 10]
    assert [len(w.samples) for w in windows[:3]] == [480000] * 3


@given(st.integers(0, 1000))
def test_kept_frames_are_the_whole_frames_of_the_clip(num_samples: int) -> None:
    samples = np.arange(num_samples, dtype=np.float32)
    windows = split_clip(samples, SMALL)
    assert sum(w.num_frames for w in windows) == num_samples // 4
    for window in windows:
        assert len(window.samples) % 4 == 0
        assert len(window.samples) <= SMALL.max_frames * 4
        assert not window.samples[window.num_samples :].any()
    kept = [w.samples[: w.num_frames * 4] for w in windows] or [samples[:0]]
    assert np.array_equal(np.concatenate(kept), samples[: num_samples // 4 * 4])


def test_clip_without_a_whole_frame_has_no_window() -> None:
    assert split_clip(np.zeros(1279, np.float32), CONFIG) == []
    assert join_codes([], CONFIG).shape == (8, 0)


@pytest.mark.parametrize("samples", [np.zeros((2, 1280)), np.full(1280, np.nan)])
def test_audio_that_cannot_be_encoded_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(VoiceError, match="audio to encode"):
        split_clip(samples.astype(np.float32), CONFIG)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((8, 4), np.int64), "shape"),
        (np.zeros((0, 8, 4), np.int64), "shape"),
        (np.zeros((1, 7, 4), np.int64), "shape"),
        (np.zeros((1, 8, 0), np.int64), "shape"),
        (np.zeros((1, 8, 376), np.int64), "shape"),
        (np.full((1, 8, 4), 1024), "allowed: 0 to 1023"),
        (np.full((1, 8, 4), -1), "allowed: 0 to 1023"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: np.ndarray, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_codes(codes, CONFIG)


def test_samples_that_are_no_numbers_are_an_error_of_the_engine() -> None:
    with pytest.raises(EngineError, match="not a number"):
        check_samples(np.array([0.0, np.nan], np.float32))
