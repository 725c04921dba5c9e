# SPDX-License-Identifier: Apache-2.0
"""Labels with a colon at the start of a line: `Speaker 1:`, `角色1：`, `A:`, `Alice:`.

A colon also stands in ordinary sentences, so a label must earn its meaning:

- A numbered label (`Speaker 1:`, `S1:`, `角色1:`, `人物1:`, `说话人1:`, any case) always counts.
- `A:`, `B:`, ... count when no other label but such letters, as many as there are speakers,
  stands in the script.
- Any other name counts when it is short (at most 3 words and 24 characters, or 8 with Chinese
  characters), begins with a letter and holds no sentence punctuation, and when the script is
  consistent: not more names than speakers, and two different names or one that recurs. So
  `Note: buy milk`, `http://x` and `12:30 we met` stay text. Where every line bears a name and
  one recurs, but there are more names than speakers, the script is refused: reading the names
  aloud would surely be wrong.

Labels count only at the start of a line. A script of a single line that begins with a numbered
label or a letter is also split at such labels after white space or a full stop:
`A: Hi. B: Hello.`
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from duologue.runtime.errors import ScriptError
from duologue.runtime.text.screen import Places
from duologue.runtime.text.speakers import (
    NUMBERED_WORDS,
    are_letters,
    distinct_names,
    name_key,
)

MAX_NAME_CHARS = 24
MAX_NAME_WORDS = 3
MAX_HAN_NAME_CHARS = 8

_LABEL = rf"({NUMBERED_WORDS}[ \t]*[0-9]+)[ \t]*[:：]"
_LINE_NUMBERED = re.compile(rf"^[^\S\n]*{_LABEL}", re.IGNORECASE | re.MULTILINE)
_INLINE_NUMBERED = re.compile(rf"(?<![^\s.!?。！？…]){_LABEL}", re.IGNORECASE)
_INLINE_LETTER = re.compile(r"(?<![^\s.!?。！？…])([A-Z])[ \t]*[:：](?!//)")
_LINE_NAME = re.compile(rf"[^\S\n]*([^:：\s][^:：\n]{{0,{MAX_NAME_CHARS + 4}}})[:：](?!//)")
_FIRST_WORD = re.compile(r"[^\W\d_][\w'’·-]*")
_OTHER_WORD = re.compile(r"[\w'’·-]+")
_TITLE = re.compile(r"[^\W\d_]{1,4}\.")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Mark:
    """A tag in a script: it fills [start, end), and its turn's text follows."""

    label: str
    start: int
    end: int


def is_name(text: str) -> bool:
    """Whether a text before a colon may be somebody's name.

    >>> is_name("Dr. Smith"), is_name("小明"), is_name("12"), is_name("We met, then")
    (True, True, False, False)
    """
    words = text.split()
    longest = MAX_HAN_NAME_CHARS if _HAN.search(text) else MAX_NAME_CHARS
    if not 1 <= len(words) <= MAX_NAME_WORDS or len(text.strip()) > longest:
        return False
    if len(words) > 1 and _TITLE.fullmatch(words[0]):
        words = words[1:]
    return bool(_FIRST_WORD.fullmatch(words[0])) and all(map(_OTHER_WORD.fullmatch, words))


def find_numbered(text: str) -> list[Mark]:
    """Numbered labels of a script, or none.

    >>> [mark.label for mark in find_numbered("角色1: 你好。角色2: 你好。")]
    ['角色1', '角色2']
    """
    marks = _marks(_LINE_NUMBERED.finditer(text))
    if marks and _is_one_line(text):
        return _marks(_INLINE_NUMBERED.finditer(text))
    return marks


def find_names(text: str, max_speakers: int, places: Places) -> list[Mark]:
    r"""Names with a colon at line starts, or none where they are ordinary text.

    Raises:
        ScriptError: the script surely uses names, but more than there are speakers.

    >>> [m.label for m in find_names("Alice: Hi.\nBob: Hello.", 2, Places(""))]
    ['Alice', 'Bob']
    >>> find_names("Note: buy milk", 2, Places(""))
    []
    """
    marks = list(_line_names(text))
    if not marks:
        return []
    labels = [mark.label for mark in marks]
    if are_letters(labels, max_speakers):
        return _split_letters(text, marks, max_speakers)
    counts = Counter(name_key(label) for label in labels)
    recurs = max(counts.values()) > 1
    if len(counts) <= max_speakers:
        return marks if recurs or len(counts) > 1 else []
    num_lines = sum(1 for line in text.split("\n") if line.strip())
    surely = recurs or all(len(label) == 1 for label in labels)
    if surely and len(marks) == num_lines:
        _refuse_names(marks, max_speakers, places)
    return []


def _marks(matches: Iterator[re.Match[str]]) -> list[Mark]:
    return [Mark(match.group(1), match.start(1), match.end()) for match in matches]


def _is_one_line(text: str) -> bool:
    return "\n" not in text.strip()


def _line_names(text: str) -> Iterator[Mark]:
    offset = 0
    for line in text.split("\n"):
        match = _LINE_NAME.match(line)
        if match and is_name(match.group(1)) and not _is_clock(line, match):
            start = offset + match.start(1)
            yield Mark(match.group(1).strip(), start, offset + match.end())
        offset += len(line) + 1


def _is_clock(line: str, match: re.Match[str]) -> bool:
    """Whether the colon stands between two digits, as in `at 12:30`."""
    return match.group(1)[-1].isdigit() and line[match.end() : match.end() + 1].isdigit()


def _split_letters(text: str, marks: list[Mark], max_speakers: int) -> list[Mark]:
    if not _is_one_line(text):
        return marks
    inline = _marks(_INLINE_LETTER.finditer(text))
    return [mark for mark in inline if are_letters([mark.label], max_speakers)]


def _refuse_names(marks: list[Mark], max_speakers: int, places: Places) -> None:
    names = distinct_names(mark.label for mark in marks)
    extra = list(names)[max_speakers]
    first = next(mark for mark in marks if name_key(mark.label) == extra)
    shown = ", ".join(list(names.values())[: max_speakers + 3])
    raise ScriptError(
        f"the script has {len(names)} speakers ({shown}); allowed: at most {max_speakers}",
        *places.at(first.start),
    )
