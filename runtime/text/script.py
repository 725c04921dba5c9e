# SPDX-License-Identifier: Apache-2.0
"""Read a dialogue script, in whatever notation it comes, as turns.

The notations, in the order in which they are tried; the first that is found takes the whole
script, and `Script.format` reports it:

| format | looks like | speaker |
|---|---|---|
| `json` | `[{"speaker": "Alice", "text": "Hi."}]`, `{"turns": [...]}` | number, or as they appear |
| `tags` | `[S1]Hi.[S2]Hello.`, any case, anywhere | by number |
| `paren_tags` | `(s1) Hi. (s2) Hello.`, any case, anywhere | by number |
| `numbered` | `Speaker 1: Hi.`, `角色1：`, `人物1:`, `S1:` at line starts | by number |
| `letters` | `A: Hi.`, `B: Hello.` at line starts | A is 1, B is 2 |
| `names` | `Alice: Hi.`, `小明：` at line starts | in order of first appearance |
| `lines` | several lines without any tag | 1, 2, 1, 2, ... |
| `plain` | one line without any tag | 1 |

Rules that hold for all: text before the first tag is kept as a turn of speaker 1; lines without
a tag belong to the turn before them; a line end within a turn becomes a space; a colon right
after a tag belongs to the tag; turns without text are dropped. `[S1]` and `(s1)` may be mixed.
What makes a name with a colon a tag is said in `duologue.runtime.text.labels`. A bare `[1]` is
text here; the normalisation of MOSS-TTSD turns it into a tag.

Time is linear in the length of the script: every pattern matches from an anchor and never
rescans what it has passed.
"""

from __future__ import annotations

import re

from duologue.runtime.core import Script, Turn
from duologue.runtime.errors import ScriptError
from duologue.runtime.text.json_turns import JsonTurn, looks_like_json, read_json_turns
from duologue.runtime.text.labels import Mark, find_names, find_numbered
from duologue.runtime.text.screen import (
    Places,
    check_characters,
    check_size,
    find_forbidden,
    make_turn,
    unify_lines,
)
from duologue.runtime.text.speakers import (
    are_letters,
    name_key,
    name_table,
    number_in,
    number_names,
    speaker_number,
)

MAX_SCRIPT_BYTES = 200_000

SPEAKER_TAG = re.compile(r"\[[sS][0-9]+\]|\([sS][0-9]+\)|（[sS][0-9]+）|【[sS][0-9]+】")


def parse_script(text: str, *, max_speakers: int, max_bytes: int = MAX_SCRIPT_BYTES) -> Script:
    r"""Read a script as turns.

    Args:
        text: the script in any notation of this module.
        max_speakers: how many speakers the model knows.
        max_bytes: longest script allowed, in UTF-8.

    Returns:
        At least one turn, each with the place of its tag.

    Raises:
        ScriptError: too long, empty, a forbidden character, broken JSON, or a speaker that the
            model does not know; with line and column where there is a place.

    >>> parse_script("Alice: Hi.\nBob: Hello.", max_speakers=2).canonical
    '[S1]Hi.[S2]Hello.'
    """
    check_size(text, max_bytes)
    text = unify_lines(text)
    places = Places(text)
    check_characters(text, places)
    script = _read(text, max_speakers, places)
    if not script.turns:
        raise ScriptError("the script holds nothing to say; allowed: at least one turn with text")
    return script


def is_own_notation(text: str) -> bool:
    """Whether a script is written as MOSS-TTSD reads it: with tags such as `[S1]`, and no others.

    >>> [is_own_notation(text) for text in ("[S1] Hi.", "[s1]Hi.", "[S1]Hi.(S2)No.", "A: Hi.")]
    [True, False, False, False]
    """
    labels = SPEAKER_TAG.findall(text)
    return bool(labels) and all(label.startswith("[S") for label in labels)


def tagged_turns(text: str, default_speaker: int, max_speakers: int) -> tuple[Turn, ...]:
    """Read a text in which only `[S1]` and `(s1)` are tags.

    Args:
        text: e.g. the transcript of a voice.
        default_speaker: who says what stands before the first tag.
        max_speakers: the highest number allowed.

    Raises:
        ScriptError: a forbidden character, or a speaker that the model does not know.

    >>> [turn.text for turn in tagged_turns("One. [S2] Two.", 1, 2)]
    ['One.', 'Two.']
    """
    text = unify_lines(text)
    places = Places(text)
    check_characters(text, places)
    marks = _tag_marks(text)
    numbers = [speaker_number(_digits(m), m.label, max_speakers, places.at(m.start)) for m in marks]
    return _turns(text, marks, numbers, places, default_speaker)


def _read(text: str, max_speakers: int, places: Places) -> Script:
    if looks_like_json(text):
        return _read_json(text, max_speakers, places)
    marks = _tag_marks(text)
    if marks:
        kind = "paren_tags" if marks[0].label[0] in "(（" else "tags"
        return _read_numbered(text, marks, kind, max_speakers, places)
    marks = find_numbered(text)
    if marks:
        return _read_numbered(text, marks, "numbered", max_speakers, places)
    marks = find_names(text, max_speakers, places)
    if marks:
        return _read_names(text, marks, max_speakers, places)
    return _read_lines(text, max_speakers)


def _tag_marks(text: str) -> list[Mark]:
    return [Mark(m.group(), m.start(), m.end()) for m in SPEAKER_TAG.finditer(text)]


def _digits(mark: Mark) -> str:
    return "".join(character for character in mark.label if character in "0123456789")


def _read_numbered(
    text: str, marks: list[Mark], kind: str, max_speakers: int, places: Places
) -> Script:
    numbers = [speaker_number(_digits(m), m.label, max_speakers, places.at(m.start)) for m in marks]
    names: dict[int, str] = {}
    if kind == "numbered":
        for mark, number in zip(marks, numbers, strict=True):
            names.setdefault(number, mark.label)
    return _script(_turns(text, marks, numbers, places), kind, names)


def _read_names(text: str, marks: list[Mark], max_speakers: int, places: Places) -> Script:
    labels = [mark.label for mark in marks]
    speakers = number_names(labels, max_speakers)
    numbers = [speakers[name_key(label)] for label in labels]
    names: dict[int, str] = {}
    for label, number in zip(labels, numbers, strict=True):
        names.setdefault(number, label)
    kind = "letters" if are_letters(labels, max_speakers) else "names"
    return _script(_turns(text, marks, numbers, places), kind, names)


def _read_lines(text: str, max_speakers: int) -> Script:
    turns: list[Turn] = []
    for index, line in enumerate(text.split("\n")):
        column = len(line) - len(line.lstrip()) + 1
        turn = make_turn(len(turns) % min(2, max_speakers) + 1, line, (index + 1, column))
        if turn is not None:
            turns.append(turn)
    return _script(tuple(turns), "lines" if len(turns) > 1 else "plain", {})


def _read_json(text: str, max_speakers: int, places: Places) -> Script:
    items = read_json_turns(text, places)
    numbers = _json_speakers(items, max_speakers, places)
    turns: list[Turn] = []
    names: dict[int, str] = {}
    for item, number in zip(items, numbers, strict=True):
        _check_json_turn(item, places)
        if not item.label.isdigit():
            names.setdefault(number, item.label)
        turn = make_turn(number, unify_lines(item.text), places.at(item.offset))
        if turn is not None:
            turns.append(turn)
    return _script(tuple(turns), "json", names)


def _json_speakers(items: list[JsonTurn], max_speakers: int, places: Places) -> list[int]:
    digits = [number_in(item.label) for item in items]
    if all(digits):
        return [
            speaker_number(number or "", item.label, max_speakers, places.at(item.offset))
            for item, number in zip(items, digits, strict=True)
        ]
    speakers = number_names([item.label for item in items], max_speakers)
    numbers = [speakers[name_key(item.label)] for item in items]
    for item, number in zip(items, numbers, strict=True):
        if number > max_speakers:
            raise ScriptError(
                f"the script has {len(speakers)} speakers, {item.label!r:.40} is one too many; "
                f"allowed: at most {max_speakers}",
                *places.at(item.offset),
            )
    return numbers


def _check_json_turn(item: JsonTurn, places: Places) -> None:
    """Escapes may hide characters that are refused when they are written openly."""
    found = find_forbidden(unify_lines(item.text)) or find_forbidden(item.label)
    if found is not None:
        raise ScriptError(
            f"a turn holds the character {found[1]}; allowed: printable text, tabs, line ends",
            *places.at(item.offset),
        )
    tag = SPEAKER_TAG.search(item.text)
    if tag is not None:
        raise ScriptError(
            f"a turn's text holds the tag {tag.group()!r:.40}; allowed: one speaker per turn",
            *places.at(item.offset),
        )


def _turns(
    text: str, marks: list[Mark], numbers: list[int], places: Places, first_speaker: int = 1
) -> tuple[Turn, ...]:
    """Cut the text at its tags; what stands before the first is the first speaker's."""
    lead = text[: marks[0].start] if marks else text
    start = len(lead) - len(lead.lstrip())
    turns = [make_turn(first_speaker, lead, places.at(start))]
    ends = [mark.start for mark in marks[1:]] + [len(text)]
    for mark, number, end in zip(marks, numbers, ends, strict=False):
        turns.append(make_turn(number, text[mark.end : end], places.at(mark.start)))
    return tuple(turn for turn in turns if turn is not None)


def _script(turns: tuple[Turn, ...], kind: str, names: dict[int, str]) -> Script:
    num_speakers = max([*names, *(turn.speaker for turn in turns)], default=0)
    return Script(turns, kind, name_table(names, num_speakers))
