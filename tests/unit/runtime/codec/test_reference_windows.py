from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.codec import reference_windows as windows
from duologue.runtime.config import CodecConfig
from duologue.runtime.core import FloatArray, IntArray

CONFIG = CodecConfig("any", 16000, 24000, 1280, 1920, 1, 1024, 375)
WIDTH = CONFIG.samples_per_frame


class LocalCodec:
    """A frame sounds like its code, whatever stands beside it."""

    config = CONFIG

    def encode(self, samples: FloatArray) -> IntArray:
        frames = samples[: len(samples) // 1280 * 1280].reshape(-1, 1280)
        return frames[:, 0].astype(np.int64)[None]

    def decode(self, codes: IntArray) -> FloatArray:
        assert codes.shape[2] <= CONFIG.max_frames
        return np.repeat(codes[:, 0].astype(np.float32), WIDTH, axis=1)

    def close(self) -> None:
        """Nothing to do."""


def dialogue(num_frames: int) -> IntArray:
    return np.random.default_rng(num_frames).integers(0, 1024, (1, num_frames))


@pytest.mark.parametrize("num_frames", [0, 1, 249, 250, 251, 375, 376, 700])
def test_windowed_decode_covers_every_frame(num_frames: int) -> None:
    codes = dialogue(num_frames)
    made = windows.decode_windowed(LocalCodec(), codes)
    assert np.array_equal(made, np.repeat(codes[0], WIDTH))


@pytest.mark.parametrize(
    ("num_frames", "num_samples"),
    [
        (1, 1920),
        (85, 163200),
        (104, 199680),
        (105, 201600),
        (106, 201600),
        (110, 208800),
        (125, 237600),
        (126, 241920),
        (189, 362880),
        (190, 364800),
        (195, 372000),
        (210, 400800),
        (211, 405120),
        (330, 633600),
    ],
)
def test_lengths_are_those_of_the_reference_quirk_included(
    num_frames: int, num_samples: int
) -> None:
    voice = windows.reference_codes(LocalCodec(), np.zeros(16000, np.float32))
    made = windows.decode_with_reference(
        LocalCodec(), dialogue(num_frames), voice, loses_audio=True
    )
    assert len(made) == num_samples


@given(st.integers(0, 500))
def test_repaired_decode_loses_nothing(num_frames: int) -> None:
    codes = dialogue(num_frames)
    voice = np.zeros((1, 250), np.int64)
    made = windows.decode_with_reference(LocalCodec(), codes, voice)
    assert np.array_equal(made, np.repeat(codes[0], WIDTH))


def test_voice_is_cut_or_filled_to_20_seconds() -> None:
    loud = np.full(25 * 16000, 7.0, np.float32)
    assert windows.reference_codes(LocalCodec(), loud).tolist() == [[7] * 250]
    assert windows.reference_codes(LocalCodec(), loud[:12800]).tolist() == [[7] * 10 + [0] * 240]
