# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.config import LimitsConfig
from duologue.runtime.core import Script, Turn
from duologue.runtime.text.timing import (
    estimate_turn_spans,
    expected_frames,
    max_frames_for,
    speech_weight,
)


def script(*texts: str) -> Script:
    return Script(tuple(Turn(index % 2 + 1, text) for index, text in enumerate(texts)))


@given(st.lists(st.text(), min_size=1), st.integers(0, 100_000))
def test_spans_join_and_fill_the_stretch(texts: list[str], num_frames: int) -> None:
    spans = estimate_turn_spans(script(*texts), num_frames)
    assert len(spans) == len(texts)
    assert spans[0][0] == 0
    assert spans[-1][1] == num_frames
    assert all(start <= end for start, end in spans)
    assert all(left[1] == right[0] for left, right in pairwise(spans))


@given(st.text(), st.text())
def test_weights_add_up(left: str, right: str) -> None:
    whole, parts = speech_weight(left + right), speech_weight(left) + speech_weight(right)
    assert whole <= parts <= whole + 2


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("abc", 3),
        ("a b", 2),
        ("é", 1),
        ("e\u0301", 1),
        ("ж", 1),
        ("好", 3),
        ("\U00020000", 3),
        ("か", 3),
        ("한", 3),
        ("2", 3),
        ("，", 1),
        ("…", 2),
        ("$", 1),
        ("", 1),
    ],
)
def test_characters_weigh_what_they_take_to_say(text: str, weight: int) -> None:
    assert speech_weight(text) == weight


def test_a_chinese_turn_gets_as_long_as_its_syllables_take() -> None:
    assert estimate_turn_spans(script("你好", "abcdef"), 100) == [(0, 50), (50, 100)]


def test_the_cap_grows_with_the_text_from_a_least_number_of_frames() -> None:
    limits = LimitsConfig(max_rows=10_000, frames_per_letter=2.5, min_frames=10)
    assert max_frames_for(script("a b"), limits) == 10
    assert max_frames_for(script("abcd e", "f"), limits) == 15


def test_a_chinese_character_is_expected_to_take_as_long_as_three_letters() -> None:
    limits = LimitsConfig(max_rows=10_000, typical_frames_per_letter=0.8)
    assert expected_frames(script("好" * 10), limits) == expected_frames(script("abc" * 10), limits)
    assert expected_frames(script("abc" * 10), limits) == 24
