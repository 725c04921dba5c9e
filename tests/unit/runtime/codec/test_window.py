from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.codec.window import Stitcher, WindowLadder, WindowPlan, default_windows
from duologue.runtime.config import CodecConfig, WindowConfig, WindowStep
from duologue.runtime.core import CodeWindow, FloatArray, IntArray

WIDTH = 6
"""Samples per frame of the pretended codec."""

steps = st.builds(
    WindowStep, hop=st.integers(1, 8), left=st.integers(0, 12), right=st.integers(0, 5)
)
ladders = st.builds(
    WindowConfig,
    steps=st.lists(steps, min_size=1, max_size=4).map(tuple),
    crossfade_samples=st.integers(0, 5 * WIDTH),
)


def stream_codes(num_frames: int) -> IntArray:
    return np.random.default_rng(num_frames).integers(0, 50, (2, num_frames))


def decode_locally(codes: IntArray) -> FloatArray:
    """A codec without memory: what a frame sounds like does not depend on its neighbours."""
    ramp = np.linspace(0.1, 1.0, WIDTH, dtype=np.float32)
    return (codes.sum(axis=0).astype(np.float32)[:, None] * ramp).reshape(-1)


def windows_of(config: WindowConfig, codes: IntArray, arrivals: list[int]) -> list[CodeWindow]:
    """All windows of a stream whose frames arrive in the given portions."""
    plan, windows, total = WindowPlan(config), [], codes.shape[1]
    for num_frames in [*np.minimum(np.cumsum(arrivals, dtype=int), total), total]:
        while window := plan.next(codes[:, :num_frames], is_complete=False):
            windows.append(window)
    while window := plan.next(codes, is_complete=True):
        windows.append(window)
    return windows


@given(ladders, st.integers(0, 120), st.lists(st.integers(0, 20), max_size=20))
def test_windows_depend_on_the_length_of_the_stream_alone(
    config: WindowConfig, num_frames: int, arrivals: list[int]
) -> None:
    codes = stream_codes(num_frames)
    plan, at_once = WindowPlan(config), []
    while window := plan.next(codes, is_complete=True):
        at_once.append(window)
    piecewise = windows_of(config, codes, arrivals)
    assert [describe(w) for w in piecewise] == [describe(w) for w in at_once]
    pairs = zip(piecewise, at_once, strict=True)
    assert all(np.array_equal(a.codes, b.codes) for a, b in pairs)


@given(ladders, st.integers(1, 120))
def test_every_frame_is_emitted_exactly_once_and_no_window_is_too_long(
    config: WindowConfig, num_frames: int
) -> None:
    longest = max(step.left + step.hop + max(step.right, 1) for step in config.steps)
    windows = windows_of(config, stream_codes(num_frames), [])
    emitted = [f for w in windows for f in range(w.first_frame, w.first_frame + w.hop)]
    assert emitted == list(range(num_frames))
    assert all(w.codes.shape[1] == w.left + w.hop + w.right <= longest for w in windows)
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True]


@given(ladders, st.integers(1, 120))
def test_contexts_are_cut_only_at_the_ends_of_the_stream(
    config: WindowConfig, num_frames: int
) -> None:
    ladder = WindowLadder(config)
    for window in windows_of(config, stream_codes(num_frames), []):
        step = ladder.step(window.index)
        assert window.first_frame == ladder.first_frame(window.index)
        assert window.left == min(step.left, window.first_frame)
        if not window.is_last:
            assert (window.hop, window.right) == (step.hop, step.right)


@given(ladders, st.integers(1, 120))
def test_stitching_a_codec_without_memory_equals_decoding_the_whole(
    config: WindowConfig, num_frames: int
) -> None:
    codes = stream_codes(num_frames)
    stitcher = Stitcher(config, WIDTH)
    windows = windows_of(config, codes, [])
    pieces = [stitcher.push(window, decode_locally(window.codes)) for window in windows]
    assert [len(p) for p in pieces] == [w.hop * WIDTH for w in windows]
    assert np.array_equal(np.concatenate(pieces), decode_locally(codes))


def test_seam_is_a_linear_crossfade_of_both_windows() -> None:
    config = WindowConfig((WindowStep(2, 1, 1),), crossfade_samples=4)
    windows = windows_of(config, stream_codes(4), [])
    stitcher = Stitcher(config, WIDTH)
    first = stitcher.push(windows[0], np.ones(3 * WIDTH, np.float32))
    second = stitcher.push(windows[1], np.zeros(3 * WIDTH, np.float32))
    assert first.tolist() == [1.0] * 2 * WIDTH
    falling = np.float32(1) - np.linspace(0, 1, 4, dtype=np.float32)
    assert second.tolist() == [*falling.tolist(), *[0.0] * (2 * WIDTH - 4)]


def test_seam_without_right_context_is_not_faded() -> None:
    config = WindowConfig((WindowStep(2, 1, 0),), crossfade_samples=4)
    windows = windows_of(config, stream_codes(4), [])
    stitcher = Stitcher(config, WIDTH)
    stitcher.push(windows[0], np.ones(2 * WIDTH, np.float32))
    second = stitcher.push(windows[1], np.zeros(3 * WIDTH, np.float32))
    assert second.tolist() == [0.0] * 2 * WIDTH


def test_windows_out_of_order_are_our_own_mistake() -> None:
    config = WindowConfig((WindowStep(2, 1, 1),), crossfade_samples=4)
    windows = windows_of(config, stream_codes(6), [])
    with pytest.raises(AssertionError, match="order"):
        Stitcher(config, WIDTH).push(windows[1], np.zeros(4 * WIDTH, np.float32))


def test_stream_without_frames_has_no_window() -> None:
    plan = WindowPlan(WindowConfig((WindowStep(2, 1, 1),), crossfade_samples=4))
    assert plan.next(np.empty((0, 0), np.int64), is_complete=True) is None


def test_default_ladder_begins_small_and_has_few_lengths() -> None:
    codec = CodecConfig("any", 16000, 24000, 1280, 1920, 8, 1024, 375)
    windows = windows_of(default_windows(codec), np.zeros((8, 1000), np.int64), [])
    lengths = [window.codes.shape[1] for window in windows[:-1]]
    assert lengths[0] == 5
    assert len(set(lengths)) <= 6
    assert max(lengths) <= codec.max_frames


def describe(window: CodeWindow) -> tuple[int, ...]:
    return (
        window.index,
        window.first_frame,
        window.left,
        window.hop,
        window.right,
        window.is_last,
    )
