# SPDX-License-Identifier: Apache-2.0
"""Numbers, dates, units and amounts of money written out as they are spoken.

The grammars are those of WeTextProcessing, through its runtime `wetext` (Apache-2.0), which
brings them in its wheel and reads nothing else. It is imported when it is first needed.

The library is handed short stretches that hold a digit, and nothing else, because:

- its time grows faster than the length of the text;
- it writes quotes and backslashes with a backslash before them;
- a bare `[1]` may be the tag of a speaker, and `[laugh]` an event: brackets stay as they are;
- where its grammar knows no reading, it fails for the whole stretch; then single words are
  tried, and a word without a reading stays as it was written.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from duologue.runtime.core import Script, TextFrontend
from duologue.runtime.errors import EngineUnavailableError
from duologue.runtime.text.ttsfrd_writer import load_ttsfrd, ttsfrd_resource

Language = Literal["zh", "en"]
Write = Callable[[str], str]

_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_DIGIT = re.compile(r"[0-9０-９]")
_KEPT = re.compile(r'(\[[^\[\]]{0,40}\]|["\\])')
_WORDS = re.compile(r"(\s+)")
# The rest if it is short, else up to the end of a sentence, else of a word, else just cut.
_STRETCH = re.compile(
    r".{1,80}\Z|.{1,80}(?:(?<=[。！？；])|(?<=[.!?;]\s))|.{1,80}(?<=[\s，、])|.{1,80}", re.DOTALL
)


def apply_frontend(script: Script, frontend: TextFrontend) -> Script:
    """Write out the numbers of every turn in the turn's own language.

    Args:
        script: as parsed; before `normalize_script`, which deletes hyphens and colons.
        frontend: "zh_en", or "none", which changes nothing.

    Raises:
        EngineUnavailableError: the library is not installed.
    """
    if frontend == "none":
        return script
    turns = tuple(replace(turn, text=write_out(turn.text)) for turn in script.turns)
    return replace(script, turns=turns)


def language_of(text: str) -> Language:
    """Chinese if there is a Chinese character, English otherwise.

    >>> language_of("iPhone 15 很好"), language_of("fine")
    ('zh', 'en')
    """
    return "zh" if _HAN.search(text) else "en"


def write_out(text: str) -> str:
    """Write out the numbers of one turn; text without a digit stays as it is.

    Raises:
        EngineUnavailableError: the library is not installed.
    """
    if not _DIGIT.search(text):
        return text
    write = _writer(language_of(text))
    # Splitting at a group keeps what was matched at the odd places.
    pieces = _KEPT.split(text)
    return "".join(
        piece if index % 2 else "".join(_write_stretch(s, write) for s in _STRETCH.findall(piece))
        for index, piece in enumerate(pieces)
    )


def _write_stretch(stretch: str, write: Write) -> str:
    if not _DIGIT.search(stretch):
        return stretch
    core = stretch.strip()
    lead, _, tail = stretch.partition(core)
    try:
        return lead + write(core) + tail
    except AssertionError:  # how the library says that its grammar has no reading
        return lead + "".join(_write_word(word, write) for word in _WORDS.split(core)) + tail


def _write_word(word: str, write: Write) -> str:
    if not _DIGIT.search(word):
        return word
    try:
        return write(word)
    except AssertionError:
        return word


@lru_cache(maxsize=2)
def _writer(language: Language) -> Write:
    resource = ttsfrd_resource()
    if resource is not None:
        return load_ttsfrd(resource)
    try:
        from wetext import Normalizer
    except ImportError as error:
        raise EngineUnavailableError(
            "the text front end zh_en needs the package wetext: pip install 'duologue[text]'"
        ) from error
    normalizer = Normalizer(lang=language)
    lock = threading.Lock()  # the library says nothing about threads

    def write(text: str) -> str:
        with lock:
            return str(normalizer.normalize(text)) or text

    return write
