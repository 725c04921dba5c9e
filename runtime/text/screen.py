# SPDX-License-Identifier: Apache-2.0
"""What is turned away before any parsing, and where in a script an offset lies."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

from duologue.runtime.core import Turn
from duologue.runtime.errors import ScriptError

# C0 without tab, line feed and carriage return; DEL and C1; bidirectional embeddings, overrides
# and isolates, which make a text look unlike what is spoken; halves of surrogate pairs.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


_LEAD = re.compile(r"[\s:：]+")


class Places:
    r"""Line and column of any offset of a text, in logarithmic time.

    >>> Places("ab\ncd").at(4)
    (2, 2)
    """

    __slots__ = ("_starts",)

    def __init__(self, text: str) -> None:
        self._starts = [0]
        self._starts.extend(match.end() for match in re.finditer("\n", text))

    def at(self, offset: int) -> tuple[int, int]:
        r"""Line and column of an offset, both from 1."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def check_size(text: str, max_bytes: int) -> None:
    """Refuse a script that is too long.

    Args:
        text: the script.
        max_bytes: longest allowed, in UTF-8.

    Raises:
        ScriptError: the script is longer.
    """
    # Every character takes at least one byte, so a huge text is refused without encoding it.
    size = len(text)
    if size <= max_bytes:
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise ScriptError(
            f"the script has {size} bytes or more of UTF-8; allowed: at most {max_bytes}"
        )


def unify_lines(text: str) -> str:
    r"""Drop a byte order mark in front and write every line end as a line feed.

    >>> unify_lines("a\r\nb\rc")
    'a\nb\nc'
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def find_forbidden(text: str) -> tuple[int, str] | None:
    r"""Offset and description of the first character that no script may hold.

    >>> find_forbidden("a\0b")
    (1, 'U+0000 (control)')
    """
    match = _FORBIDDEN.search(text)
    if match is None:
        return None
    character = match.group()
    kinds = {"Cc": "control", "Cs": "half of a surrogate pair"}
    kind = kinds.get(unicodedata.category(character), "bidirectional control")
    return match.start(), f"U+{ord(character):04X} ({kind})"


def check_characters(text: str, places: Places) -> None:
    """Refuse control characters, bidirectional overrides and lone surrogates.

    Raises:
        ScriptError: with the place of the first such character.
    """
    found = find_forbidden(text)
    if found is not None:
        offset, description = found
        raise ScriptError(
            f"the character {description} is not allowed; allowed: printable text, tabs, line ends",
            *places.at(offset),
        )


def clean_text(text: str) -> str:
    r"""The spoken text of a turn: one line, without white space or colons in front.

    A line end within a turn becomes one space. A colon in front belongs to the tag before it,
    as in `[S1]: hello`, and is never spoken.

    >>> clean_text(" : hello\nthere ")
    'hello there'
    """
    text = text.replace("\n", " ").strip()
    lead = _LEAD.match(text)
    return text[lead.end() :] if lead else text


def make_turn(speaker: int, text: str, place: tuple[int, int]) -> Turn | None:
    """A turn of cleaned text, or None when nothing is said."""
    text = clean_text(text)
    return Turn(speaker, text, *place) if text else None
