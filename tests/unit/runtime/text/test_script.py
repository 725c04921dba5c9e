# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re

import pytest

from duologue.runtime.core import Script
from duologue.runtime.errors import ScriptError
from duologue.runtime.text.labels import is_name
from duologue.runtime.text.script import parse_script, tagged_turns

HI_HELLO = [(1, "Hi."), (2, "Hello.")]


def parse(text: str, max_speakers: int = 2) -> Script:
    return parse_script(text, max_speakers=max_speakers)


def turns(text: str, max_speakers: int = 2) -> list[tuple[int, str]]:
    return [(turn.speaker, turn.text) for turn in parse(text, max_speakers).turns]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[S1]Hi.[S2]Hello.", "tags"),
        ("[s1] Hi. [s2] Hello.", "tags"),
        ("[S1]: Hi.\n[S2]：Hello.", "tags"),
        ("【S1】Hi.【S2】Hello.", "tags"),
        ("(s1) Hi. (S2) Hello.", "paren_tags"),
        ("（s1）Hi.（s2）Hello.", "paren_tags"),
        ("(s1) Hi. [S2] Hello.", "paren_tags"),
        ("角色1: Hi.\n角色2：Hello.", "numbered"),
        ("人物1：Hi.\n人物2: Hello.", "numbered"),
        ("角色1: Hi. 角色2: Hello.", "numbered"),
        ("Speaker 1: Hi.\nSPEAKER 2 : Hello.", "numbered"),
        ("S1: Hi.\ns2: Hello.", "numbered"),
        ("A: Hi.\nB: Hello.", "letters"),
        ("A: Hi. B: Hello.", "letters"),
        ("A：Hi.B：Hello.", "letters"),
        ("Alice: Hi.\nBob: Hello.", "names"),
        ("Dr. Smith: Hi.\nold tom: Hello.", "names"),
        ("小明：Hi.\n小红:Hello.", "names"),
        ("Hi.\n\n Hello.", "lines"),
        ('[{"speaker": "Bob", "text": "Hi."}, {"speaker": "Al", "text": "Hello."}]', "json"),
        ('{"dialogue": [{"role": 1, "content": "Hi."}, {"role": 2, "content": "Hello."}]}', "json"),
        ('{"id": {"a": [1]}, "turns": [{"name":"S1","text":"Hi."},{"name":"S2","text":"Hello."}]}',
         "json"),
    ],
)  # fmt: skip
def test_every_notation_gives_the_same_turns(text: str, kind: str) -> None:
    assert turns(text) == HI_HELLO
    assert parse(text).format == kind


@pytest.mark.parametrize(
    "text",
    [
        "Note: buy milk",
        "http://x",
        "http://x.org: see there",
        "12:30 we met",
        "At 12:30 we met",
        "A dog barks",
        "DNA: x",
        "He said that DNA: x is a plan A: go",
        "We met, then: nothing",
        "[1]Hi.",
        "[laugh] Hi.",
        "[1]",
        "[]",
        "plan A: go",
    ],
)
def test_an_ordinary_line_stays_text_of_the_first_speaker(text: str) -> None:
    assert turns(text) == [(1, text)]
    assert parse(text).format == "plain"


def test_a_colon_inside_a_turn_stays_text() -> None:
    assert turns("A: DNA: x\nB: plan A: go") == [(1, "DNA: x"), (2, "plan A: go")]


def test_names_are_kept_in_order_of_first_appearance() -> None:
    script = parse("Bob: Hi.\nAlice: Hello.\nBOB: Well.")
    assert script.names == ("Bob", "Alice")
    assert [turn.speaker for turn in script.turns] == [1, 2, 1]


def test_a_single_name_counts_when_it_recurs() -> None:
    assert turns("Alice: One.\nAlice: Two.") == [(1, "One."), (1, "Two.")]


def test_letters_and_numbers_keep_their_speaker_whatever_the_order() -> None:
    assert turns("B: Hi.\nA: Hello.") == [(2, "Hi."), (1, "Hello.")]
    assert turns("角色2：Hi.") == [(2, "Hi.")]
    assert parse("角色2：Hi.").names == ("S1", "角色2")
    assert parse("[S2]Hi.").names == ("S1", "S2")


def test_text_before_the_first_tag_belongs_to_the_first_speaker() -> None:
    assert turns("Well,\nnow. [S2]Hi.") == [(1, "Well, now."), (2, "Hi.")]
    assert turns("A talk.\nAlice: Hi.\nBob: Hello.") == [(1, "A talk."), *HI_HELLO]


def test_continuation_lines_stay_with_their_turn() -> None:
    assert turns("Alice: Hi.\r\nAnd more.\r\n\r\nBob: Hello.") == [
        (1, "Hi. And more."),
        (2, "Hello."),
    ]


def test_empty_turns_are_dropped() -> None:
    assert turns("[S1][S2] \n [S1]:[S2]Hi.") == [(2, "Hi.")]


def test_free_lines_alternate_between_two_speakers_however_many_there_are() -> None:
    assert [speaker for speaker, _ in turns("a\nb\n\nc", 5)] == [1, 2, 1]
    assert [speaker for speaker, _ in turns("a\nb", 1)] == [1, 1]


def test_places_are_those_of_the_tags() -> None:
    script = parse("\ufeff[S1]Hi.\r\n  [S2]Hello.")
    assert [(turn.line, turn.column) for turn in script.turns] == [(1, 1), (2, 3)]
    script = parse('[\n {"speaker": 1, "text": "a"},\n  {"speaker": 2, "text": "b"}]')
    assert [(turn.line, turn.column) for turn in script.turns] == [(2, 2), (3, 3)]
    assert [(turn.line, turn.column) for turn in parse("\n a\n\n  b").turns] == [(2, 2), (4, 3)]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[S1]Hi.\n [S3]No.", (2, 2), "allowed: S1 to S2"),
        ("[S0]Hi.", (1, 1), "allowed: S1 to S2"),
        (f"[S{'9' * 9000}]Hi.", (1, 1), "allowed: S1 to S2"),
        ("(s3) Hi.", (1, 1), "(s3)"),
        ("Speaker 3: Hi.", (1, 1), "Speaker 3"),
        ("A: x\nB: y\nC: z", (3, 1), "3 speakers"),
        ("Al: x\nBo: y\nCy: z\nAl: w", (3, 1), "Al, Bo, Cy"),
        ("ab\n c\0", (2, 3), "U+0000"),
        ("a\x85b", (1, 2), "U+0085"),
        ("a\u202eb", (1, 2), "bidirectional"),
        ("a\u2067b", (1, 2), "bidirectional"),
        ("a\ud800b", (1, 2), "surrogate"),
        ('[{"speaker": 1, "text": "a"},\n {"speaker": 3, "text": "b"}]', (2, 2), "S1 to S2"),
        ('[{"speaker": 1, "text": "a"},\n {"speaker": 2}]', (2, 2), "text"),
        ('[{"text": "a"}]', (1, 2), "speaker"),
        ('[{"speaker": true, "text": "a"}]', (1, 2), "True"),
        ('[{"speaker": -1, "text": "a"}]', (1, 2), "-1"),
        ('[{"speaker": 1, "text": "a"}, 7]', (1, 31), "int"),
        ('[{"speaker": 1, "text": "a\\u0000"}]', (1, 2), "U+0000"),
        ('[{"speaker": 1, "text": "a [S2] b"}]', (1, 2), "[S2]"),
        ('[{"speaker": 1,\n "text": "a"', (2, 13), "JSON"),
        ('{"speaker": 1}', (1, 1), "turns"),
        ("[" + "{\"a\":[" * 30_000, (1, 1), "JSON"),
    ],
)  # fmt: skip
def test_an_error_tells_its_place(text: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(ScriptError, match=re.escape(words)) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == place


def test_too_many_json_names_are_refused() -> None:
    items = [{"speaker": name, "text": "x"} for name in ("a", "b", "c")]
    with pytest.raises(ScriptError, match="one too many"):
        parse(json.dumps(items))


@pytest.mark.parametrize("text", ["", " \n\t", "[S1]", "\ufeff", '{"turns": []}', ":"])
def test_a_script_with_nothing_to_say_is_refused(text: str) -> None:
    with pytest.raises(ScriptError, match="nothing to say"):
        parse(text)


def test_the_limit_counts_bytes_of_utf8() -> None:
    assert parse_script("好" * 3, max_speakers=2, max_bytes=9).turns
    with pytest.raises(ScriptError, match="at most 8"):
        parse_script("好" * 3, max_speakers=2, max_bytes=8)
    with pytest.raises(ScriptError, match="at most 200000"):
        parse("\0" * 10_000_000)


@pytest.mark.parametrize("name", ["Alice", "小明", "Old Tom", "Dr. Smith", "Host 1", "O'Neil"])
def test_names_may_precede_a_colon(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "12", "one two three four", "a" * 25, "他昨天晚上终于对我说了", "Well, he", "e.g. x y z"],
)
def test_sentences_are_no_names(name: str) -> None:
    assert not is_name(name)


def test_a_transcript_may_hold_tags_and_nothing_else_is_a_tag() -> None:
    found = tagged_turns("A: one. [S1] two", 2, 2)
    assert [(turn.speaker, turn.text) for turn in found] == [(2, "A: one."), (1, "two")]
