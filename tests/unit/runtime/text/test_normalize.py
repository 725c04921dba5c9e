# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.core import Script, Turn
from duologue.runtime.errors import ScriptError
from duologue.runtime.text.normalize import normalize_script, normalize_text
from duologue.runtime.text.script import parse_script

RULES = st.sampled_from(["v0.7", "v1.0"])


def test_no_rules_change_nothing() -> None:
    script = parse_script("[S1] a；[S1]b [2]", max_speakers=2)
    assert normalize_script(script, "none") is script
    assert normalize_text(" a；\n[1]", "none") == " a；\n[1]"


def test_merging_keeps_the_place_of_the_first_part() -> None:
    script = parse_script("[S2]x.\n[S1]a，\n[S1]b\n[S2]c", max_speakers=2)
    merged = normalize_script(script, "v0.7")
    assert merged.turns == (Turn(2, "x.", 1, 1), Turn(1, "a。b", 2, 1), Turn(2, "c", 4, 1))
    assert merged.names == script.names


def test_bare_numbers_begin_a_turn() -> None:
    script = parse_script("[2]Hi.[1]Hello.", max_speakers=2)
    assert [(t.speaker, t.text) for t in normalize_script(script, "v0.7").turns] == [
        (2, "Hi."),
        (1, "Hello."),
    ]


def test_a_turn_of_which_nothing_is_left_is_dropped() -> None:
    script = parse_script("[S1]a[S2]~~[S1]b", max_speakers=2)
    assert normalize_script(script, "v1.0").canonical == "[S1]ab"


def test_a_script_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(ScriptError, match="nothing is left") as caught:
        normalize_script(parse_script(" [S1]~~", max_speakers=2), "v0.7")
    assert (caught.value.line, caught.value.column) == (1, 2)


def test_a_bare_number_too_long_for_a_speaker_is_refused() -> None:
    with pytest.raises(ScriptError, match="no speaker"):
        normalize_script(parse_script(f"a [{'1' * 5000}]", max_speakers=2), "v0.7")


@pytest.mark.parametrize("text", ["x，。", "a ... b", "a——b……c—d"])
def test_both_versions_agree_with_their_own_order_of_rules(text: str) -> None:
    expected = {
        "x，。": ("x，。", "x。"),
        "a ... b": ("a ... b", "a ， b"),
        "a——b……c—d": ("a，b，c—d", "a，b，c，d"),
    }[text]
    assert (normalize_text(text, "v0.7"), normalize_text(text, "v1.0")) == expected


texts = st.text(alphabet="ab哈 [](1)；：，。,.'’—…~-\n!ha")


@given(st.lists(st.tuples(st.integers(1, 3), texts), min_size=1), RULES)
def test_turn_by_turn_equals_the_whole_text(
    turns: list[tuple[int, str]], rules: Literal["v0.7", "v1.0"]
) -> None:
    script = Script(tuple(Turn(speaker, text) for speaker, text in turns))
    whole = normalize_text(script.canonical, rules)
    try:
        result = normalize_script(script, rules).canonical
    except ScriptError:
        result = ""
    if all(part.text for part in _parts(whole)):
        assert result == whole


def _parts(text: str) -> list[Turn]:
    """Parts of a normalised text, so that those with an empty part can be left out."""
    pieces = text.replace("[S", "\0[S").split("\0")
    return [Turn(1, piece.partition("]")[2]) for piece in pieces if piece]
