# SPDX-License-Identifier: Apache-2.0
"""Which speaker a label means: by number, by letter, or by first appearance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from duologue.runtime.errors import ScriptError

# The words that may stand before a speaker's number.
NUMBERED_WORDS = r"(?:speaker|角色|人物|说话人|s)"
_NUMBERED = re.compile(rf"(?:{NUMBERED_WORDS}[ \t]*)?([0-9]+)", re.IGNORECASE)
_MAX_DIGITS = 4


def speaker_number(
    digits: str, label: str, max_speakers: int, place: tuple[int, int] | None
) -> int:
    """Read the number of a speaker.

    Args:
        digits: the number as written.
        label: the whole tag, for the message.
        max_speakers: the highest number allowed.
        place: line and column of the tag, if it has one.

    Raises:
        ScriptError: the number is 0 or too high.

    >>> speaker_number("2", "[S2]", 2, (1, 1))
    2
    """
    short = digits.lstrip("0")
    number = int(short) if 0 < len(short) <= _MAX_DIGITS else 0
    if not 1 <= number <= max_speakers:
        shown = label if len(label) <= 24 else label[:24] + "…"
        raise ScriptError(
            f"{shown!r} is no speaker of this model; allowed: {allowed_speakers(max_speakers)}",
            *(place or (None, None)),
        )
    return number


def allowed_speakers(max_speakers: int) -> str:
    """The speakers of a model in words.

    >>> allowed_speakers(2)
    'S1 to S2'
    """
    return "S1" if max_speakers == 1 else f"S1 to S{max_speakers}"


def number_in(label: str) -> str | None:
    """The digits of a numbered label such as `Speaker 1`, `S1`, `角色1` or `1`.

    >>> number_in("Speaker 2"), number_in("Alice")
    ('2', None)
    """
    match = _NUMBERED.fullmatch(label)
    return match.group(1) if match else None


def name_key(name: str) -> str:
    """What makes two spellings the same name: case and spaces do not count.

    >>> name_key(" Old  Tom") == name_key("old tom")
    True
    """
    return " ".join(name.split()).casefold()


def distinct_names(names: Iterable[str]) -> dict[str, str]:
    """Key -> first spelling, in order of first appearance."""
    spellings: dict[str, str] = {}
    for name in names:
        spellings.setdefault(name_key(name), " ".join(name.split()))
    return spellings


def are_letters(names: Iterable[str], max_speakers: int) -> bool:
    """Whether all names are among the first letters of the alphabet, `A` for speaker 1.

    >>> are_letters(["A", "B", "A"], 2), are_letters(["A", "C"], 2)
    (True, False)
    """
    return all(len(name) == 1 and 0 <= ord(name) - ord("A") < max_speakers for name in names)


def number_names(names: Sequence[str], max_speakers: int) -> dict[str, int]:
    """Name key -> speaker: letters by their place in the alphabet, others as they appear.

    >>> number_names(["B", "A"], 2)
    {'b': 2, 'a': 1}
    >>> number_names(["Bob", "Alice", "bob"], 2)
    {'bob': 1, 'alice': 2}
    """
    if are_letters(names, max_speakers):
        return {name_key(name): ord(name) - ord("A") + 1 for name in names}
    return {key: index + 1 for index, key in enumerate(distinct_names(names))}


def name_table(numbers: dict[int, str], num_speakers: int) -> tuple[str, ...]:
    """Names by speaker; a speaker without one is called `S<n>`.

    >>> name_table({2: "Bob"}, 2)
    ('S1', 'Bob')
    """
    return tuple(numbers.get(speaker, f"S{speaker}") for speaker in range(1, num_speakers + 1))
