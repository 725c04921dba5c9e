from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.lm.delay import DelayPattern, DelayState

SPEECH = range(100, 110)
END = 99
PAD = 0
SPEECH_PAD = 10


@st.composite
def patterns(draw: st.DrawFn) -> DelayPattern:
    gaps = draw(st.lists(st.integers(0, 3), min_size=0, max_size=8))
    delays = (0, *np.cumsum(gaps, dtype=int).tolist())
    return DelayPattern(delays, (PAD, *[SPEECH_PAD] * (len(delays) - 1)))


@given(patterns(), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_revert_undoes_apply(pattern: DelayPattern, num_frames: int, seed: int) -> None:
    aligned = np.random.default_rng(seed).integers(0, 9, (num_frames, len(pattern.delays)))
    delayed = pattern.apply(aligned)
    assert delayed.shape == (num_frames + pattern.max_delay, len(pattern.delays))
    np.testing.assert_array_equal(pattern.revert(delayed), aligned)


@given(patterns(), st.integers(0, 12))
def test_what_no_frame_reaches_is_fill(pattern: DelayPattern, num_frames: int) -> None:
    delayed = pattern.apply(np.full((num_frames, len(pattern.delays)), 7))
    assert (delayed == 7).sum() == num_frames * len(pattern.delays)
    for channel, delay in enumerate(pattern.delays):
        outside = np.delete(delayed[:, channel], np.s_[delay : delay + num_frames])
        assert (outside == pattern.fills[channel]).all()


def _state(pattern: DelayPattern) -> DelayState:
    forced = np.full((pattern.max_delay, len(pattern.delays)), 77)
    return DelayState(pattern, forced, SPEECH.start, SPEECH.stop, END)


@given(patterns(), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_a_clean_end_of_f_frames_gives_f_rows_and_the_drain(
    pattern: DelayPattern, num_frames: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 9, (num_frames, len(pattern.delays)))
    codes[:, 0] += SPEECH.start
    # What a model that speaks `codes` would choose in every step.
    said = DelayPattern(pattern.delays, (END, *[5] * (len(pattern.delays) - 1))).apply(codes)
    said = np.concatenate([said, np.full((1, said.shape[1]), END)])
    state, rows = _state(pattern), []
    while not state.is_finished:
        rows.append(state.advance(said[state.step]))
    assert len(rows) == num_frames + max(1, pattern.max_delay)
    assert state.num_speech_rows == num_frames
    whole = np.stack(rows)[: num_frames + pattern.max_delay]
    np.testing.assert_array_equal(pattern.revert(whole), codes)


def test_the_staircase_of_three_channels_drains_as_in_the_reference() -> None:
    pattern = DelayPattern((0, 1, 2), (PAD, SPEECH_PAD, SPEECH_PAD))
    forced = np.array([[PAD, 41, 31], [PAD, SPEECH_PAD, 42]])
    state = DelayState(pattern, forced, SPEECH.start, SPEECH.stop, END)
    chosen = [[100, 1, 1], [101, 2, 2], [END, 3, 3], [105, 4, 4]]
    rows = [state.advance(np.array(ids)).tolist() for ids in chosen]
    assert rows == [
        [100, 41, 31],
        [101, 2, 42],
        [END, 3, 3],
        [PAD, SPEECH_PAD, 4],
    ]
    assert state.is_finished


@given(patterns())
def test_fills_and_the_end_are_forbidden_at_the_right_steps(pattern: DelayPattern) -> None:
    state = _state(pattern)
    for step in range(pattern.max_delay + 2):
        expected = [
            (channel, SPEECH_PAD)
            for channel, delay in enumerate(pattern.delays)
            if channel and step >= delay
        ]
        if step < pattern.max_delay:
            expected.append((0, END))
        assert sorted(state.forbidden()) == sorted(expected)
        state.advance(np.full(len(pattern.delays), SPEECH.start))
