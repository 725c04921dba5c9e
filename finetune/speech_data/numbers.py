# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 - word lists read best as text
"""Numbers, times and prices as English words, without the hyphens that normalisation deletes."""

from __future__ import annotations

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def spell_number(number: int) -> str:
    """A number below a million millions in words.

    >>> spell_number(45), spell_number(1203), spell_number(2000000)
    ('forty five', 'one thousand two hundred and three', 'two million')
    """
    if number < 0:
        return f"minus {spell_number(-number)}"
    for scale, name in _SCALES:
        if number >= scale:
            rest = number % scale
            head = f"{spell_number(number // scale)} {name}"
            joint = " and " if 0 < rest < 100 else " "
            return f"{head}{joint}{spell_number(rest)}" if rest else head
    if number >= 100:
        head = f"{_SMALL[number // 100]} hundred"
        return f"{head} and {spell_number(number % 100)}" if number % 100 else head
    if number >= len(_SMALL):
        head = _TENS[number // 10]
        return f"{head} {_SMALL[number % 10]}" if number % 10 else head
    return _SMALL[number]


def spell_ordinal(number: int) -> str:
    """A place in a row.

    >>> spell_ordinal(1), spell_ordinal(20), spell_ordinal(32)
    ('first', 'twentieth', 'thirty second')
    """
    *head, last = spell_number(number).split()
    ordinal = last[:-1] + "ieth" if last.endswith("y") else _ORDINALS.get(last, last + "th")
    return " ".join([*head, ordinal])


def spell_year(year: int) -> str:
    """A year as people say it.

    >>> spell_year(1987), spell_year(1905), spell_year(2024), spell_year(1900), spell_year(2003)
    ('nineteen eighty seven', 'nineteen oh five', 'twenty twenty four', 'nineteen hundred', 'two thousand and three')
    """  # noqa: E501
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return spell_number(year)
    if rest == 0:
        return f"{spell_number(century)} hundred"
    return f"{spell_number(century)} {'oh ' if rest < 10 else ''}{spell_number(rest)}"


def spell_time(hour: int, minute: int) -> str:
    """A time of day, hours from 1 to 12.

    >>> spell_time(3, 0), spell_time(3, 15), spell_time(3, 45), spell_time(9, 5), spell_time(12, 38)
    ("three o'clock", 'quarter past three', 'quarter to four', 'nine oh five', 'twelve thirty eight')
    """  # noqa: E501
    if minute == 0:
        return f"{spell_number(hour)} o'clock"
    if minute == 15:
        return f"quarter past {spell_number(hour)}"
    if minute == 45:
        return f"quarter to {spell_number(hour % 12 + 1)}"
    return f"{spell_number(hour)} {'oh ' if minute < 10 else ''}{spell_number(minute)}"
