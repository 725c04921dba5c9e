# SPDX-License-Identifier: Apache-2.0
"""Laws of the script parser that hold for any text."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.errors import ScriptError
from duologue.runtime.text.script import SPEAKER_TAG, parse_script


def turns(text: str, max_speakers: int = 2) -> list[tuple[int, str]]:
    return [
        (turn.speaker, turn.text) for turn in parse_script(text, max_speakers=max_speakers).turns
    ]


UNITS = [
    *(" ", ":", ": ", "s ", "S1 : a\n", "[S1", "[S1] a", "[S", "\n a", "A: b ", "Speaker 1"),
    *("(s1", "9", "哈", "1 1:", "Al. ", '[{"a":', "Speaker 1: a ", "Al: x\n", f"S{' ' * 1000}"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("lead", ["", "A: ", "S1: x. ", '[{"speaker": "'])
@pytest.mark.parametrize("unit", UNITS)
def test_no_repetition_makes_the_parser_slow(lead: str, unit: str) -> None:
    """At this length anything quadratic runs into the time limit."""
    text = lead + unit * (199_000 // len(unit))
    try:
        script = parse_script(text, max_speakers=2)
    except ScriptError:
        return
    assert script.turns


PIECES = st.one_of(
    st.sampled_from(["[S1]", "[S2]", "[s1]", "(s2)", "（S1）", "[S3]", "[1]", "[laugh]"]),
    st.sampled_from(["角色1：", "人物2:", "Speaker 1:", "A:", "B: ", "DNA: ", "Alice:", "小明："]),
    st.sampled_from(["\n", "\r\n", "\n\n", " ", "\t", ":", "：", "\0", "\u2028", "\ufeff"]),
    st.sampled_from(["你好。", "Hi, there.", "http://x", "12:30", "{", '[{"', "]"]),
)
SCRIPTS = st.one_of(st.text(), st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))


@given(SCRIPTS, st.integers(1, 5))
def test_nothing_but_a_script_error_comes_out(text: str, max_speakers: int) -> None:
    try:
        script = parse_script(text, max_speakers=max_speakers)
    except ScriptError:
        return
    assert all(turn.text == turn.text.strip() != "" for turn in script.turns)
    assert all(1 <= turn.speaker <= max_speakers for turn in script.turns)
    assert len(script.names) >= script.num_speakers


@given(SCRIPTS, st.integers(1, 5))
def test_the_canonical_form_reads_as_itself(text: str, max_speakers: int) -> None:
    try:
        script = parse_script(text, max_speakers=max_speakers)
    except ScriptError:
        return
    assert turns(script.canonical, max_speakers) == [(t.speaker, t.text) for t in script.turns]


def _spoken(text: str) -> str:
    """What is left without tags, white space and the colons that may belong to tags."""
    return re.sub(r"[\s:：\ufeff]", "", SPEAKER_TAG.sub("", text))


@given(st.lists(PIECES.filter(lambda p: "{" not in p), max_size=12).map("".join))
def test_tags_and_white_space_are_all_that_is_lost(text: str) -> None:
    try:
        script = parse_script(text, max_speakers=2)
    except ScriptError:
        return
    spoken = _spoken("".join(turn.text for turn in script.turns))
    if script.format in ("tags", "paren_tags", "lines", "plain"):
        assert spoken == _spoken(text)
        return
    label = r"(?:角色1|人物2|Speaker1|DNA|Alice|小明|A|B)*"
    kept = map(re.escape, spoken)
    assert re.fullmatch(label + "".join(f"{character}{label}" for character in kept), _spoken(text))


names = st.sampled_from(["Alice", "小明"])
words = st.text(alphabet="abc你好,.!? ", min_size=1).filter(lambda text: text.strip())


@given(st.lists(st.tuples(names, words), min_size=2))
def test_lines_of_two_names_are_read_back(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name}: {said}" for name, said in lines)
    order = list(dict.fromkeys(name for name, _ in lines))
    assert turns(text) == [(order.index(name) + 1, said.strip()) for name, said in lines]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), words), min_size=1))
def test_json_turns_are_read_back(items: list[tuple[int, str]]) -> None:
    text = json.dumps([{"speaker": speaker, "text": said} for speaker, said in items], indent=1)
    assert turns(text) == [(speaker, said.strip()) for speaker, said in items]
