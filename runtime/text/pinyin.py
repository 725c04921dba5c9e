# SPDX-License-Identifier: Apache-2.0
"""Chinese characters as Pinyin with tone numbers, for models that were trained to read it.

A small model cannot learn thousands of characters, but twelve hundred syllables it can:
`你好，Tom。` becomes `ni3 hao3, Tom.` Readings come from `pypinyin` (MIT licence), which knows
phrases, so that a character with several readings gets the one of its word, and which changes
the tones of 一, 不 and of two third tones in a row as they are spoken.

It is the last thing that happens to a text before it is cut into tokens, so the rules for
Chinese text have done their work by then.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from duologue.runtime.errors import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_HAN = re.compile(r"[\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
# What stands in brackets is an event such as [笑], whose name is part of the text as it is.
_EVENT = re.compile(r"(\[[^\[\]]{0,40}\])")
_MARKS = str.maketrans(
    {
        "，": ", ", "、": ", ", "；": ", ", "：": ", ", "…": ", ", "—": ", ", "（": ", ",
        "）": ", ", "。": ". ", "．": ". ", "？": "? ", "！": "! ", "\u3000": " ",
        **dict.fromkeys("“”「」『』《》〈〉【】", " "),
    }
)  # fmt: skip
_SPACES = re.compile(r" {2,}")
_SPACE_BEFORE_MARK = re.compile(r" ([,.?!])")
# A comma beside another mark adds nothing to it.
_COMMAS = re.compile(r"(?:, ?)+(?=[,.?!])|(?<=[.?!])(?: ?,)+")


def read_aloud(text: str, reading: str) -> str:
    """A text as a model reads it.

    Args:
        text: of one turn.
        reading: of the model, see `config.PromptConfig`.
    """
    return to_pinyin(text) if reading == "pinyin" else text


def to_pinyin(text: str) -> str:
    """Write the Chinese of a text in Pinyin; text without Chinese stays as it is.

    Args:
        text: of one turn, any languages.

    Returns:
        Syllables with tone numbers (5 is the neutral tone) between spaces, and the marks of
        Chinese as those of English. A character without a reading stays.

    Raises:
        EngineUnavailableError: the library is not installed.

    >>> to_pinyin("你好，我是Tom。"), to_pinyin("Fine, thanks.")
    ('ni2 hao3, wo3 shi4 Tom.', 'Fine, thanks.')
    """
    if not _HAN.search(text):
        return text
    read = _reader()
    # Splitting at a group keeps what was matched at the odd places.
    pieces = [
        piece if place % 2 else _HAN.sub(lambda run: f" {read(run[0])} ", piece).translate(_MARKS)
        for place, piece in enumerate(_EVENT.split(text))
    ]
    spaced = _SPACE_BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", "".join(pieces)))
    return _COMMAS.sub("", spaced).strip()


@lru_cache(maxsize=1)
def _reader() -> Callable[[str], str]:
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise EngineUnavailableError(
            "this model reads Chinese as Pinyin, which needs the package pypinyin: "
            "pip install 'duologue[text]'"
        ) from error

    def read(han: str) -> str:
        syllables = lazy_pinyin(
            han, style=Style.TONE3, neutral_tone_with_five=True, tone_sandhi=True
        )
        # A character without a reading comes back, with a tone that it does not have.
        return " ".join(s if s.isascii() else s.rstrip("5") for s in syllables)

    return read
