from __future__ import annotations

import numpy as np
import pytest

from duologue.benchmarks.stream.context import (
    ContextPlan,
    jump_db,
    log_spectral_distance_db,
    measure_contexts,
)
from duologue.benchmarks.workload import load_workload
from duologue.client.errors import RequestError
from duologue.runtime.codec.base import Codec
from duologue.runtime.config import CodecConfig, WindowStep
from duologue.runtime.core import FloatArray, IntArray

WIDTH = 1920


class BlurringCodec:
    """A frame's samples depend on two frames before it and one behind it."""

    config = CodecConfig("fake", 16000, 24000, 1280, WIDTH, 4, 16, 375)

    def encode(self, samples: FloatArray) -> IntArray:
        return np.zeros((4, 0), np.int64)

    def decode(self, codes: IntArray) -> FloatArray:
        levels = np.pad(codes[:, 0].astype(np.float32), ((0, 0), (2, 1)))
        weights = (0.2, 0.3, 1.0, 0.25)
        length = codes.shape[2]
        mixed = sum(w * levels[:, i : i + length] for i, w in enumerate(weights))
        tone = np.sin(np.arange(WIDTH) * 0.3)
        blocks = np.asarray(mixed)[:, :, None] / 40 * tone
        samples: FloatArray = blocks.reshape(len(codes), -1).astype(np.float32)
        return samples

    def close(self) -> None:
        pass


def _rows(*windows: WindowStep) -> list[dict[str, float]]:
    codec: Codec = BlurringCodec()
    codes = np.random.default_rng(1).integers(0, 16, (4, 60))
    return measure_contexts(codec, [codes, codes[:, :31]], windows)


def test_context_as_wide_as_the_codec_s_view_is_exact_and_less_is_not() -> None:
    # One frame more on the right: what is blended into the next window needs its view, too.
    exact, narrow, blind = _rows(WindowStep(5, 2, 2), WindowStep(5, 1, 1), WindowStep(5, 0, 0))
    assert exact["lsd_db"] < 1e-3 < narrow["lsd_db"] < blind["lsd_db"]
    assert exact["snr_db"] > narrow["snr_db"] > blind["snr_db"]
    assert exact["jump_db"] < narrow["jump_db"]


def test_decoded_frames_are_counted_with_their_context() -> None:
    (row,) = _rows(WindowStep(10, 5, 2))
    whole = [(60, (12, 17, 17, 17, 17, 15)), (31, (12, 17, 16))]
    assert row["frames_per_frame"] == sum(sum(lengths) for _, lengths in whole) / 91


def test_distance_is_that_of_a_gain_where_all_is_louder() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 24000).astype(np.float32)
    assert log_spectral_distance_db(2 * noise, noise, 24000) == pytest.approx(6.02, abs=0.05)


def test_an_error_away_from_the_border_is_no_jump() -> None:
    whole = np.ones(4800, np.float32)
    streamed = whole.copy()
    streamed[200:300] = 0
    assert jump_db(streamed, whole, 2400, 24000) < -100
    assert jump_db(streamed, whole, 250, 24000) > -10


@pytest.mark.parametrize("changes", [{"hops": (0,)}, {"lefts": ()}, {"rights": (-1,)}])
def test_sizes_out_of_range_are_named(changes: dict[str, tuple[int, ...]]) -> None:
    sizes = {"hops": (4,), "lefts": (0,), "rights": (0,), **changes}
    with pytest.raises(RequestError, match=next(iter(changes))):
        ContextPlan(workloads=(load_workload("en_30s"),), **sizes)
