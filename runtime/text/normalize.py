# SPDX-License-Identifier: Apache-2.0
"""The text rules that MOSS-TTSD was trained with, one function per rule.

Source: OpenMOSS/MOSS-TTSD, `legacy/v0.7/generation_utils.py` (v0.7) and `generation_utils.py`
(v1.0), function `normalize_text`. A checkpoint wants exactly its own rules, so `RULES` keeps
them in order, oddities included: a full stop in the middle becomes a comma, and a dash vanishes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from operator import attrgetter, itemgetter

from duologue.runtime.core import Normalization, Script, Turn
from duologue.runtime.errors import ScriptError

Rule = Callable[[str], str]

_BARE_TAG = re.compile(r"\[(\d+)\]")
_BEFORE_TAG = re.compile(r"(?=\[S\d+\])")
_TAGGED = re.compile(r"(\[S\d+\])\s*(.*)", re.DOTALL)
_DECORATION = str.maketrans("", "", '【】《》（）『』「」"-_“”～~')
_QUOTES = str.maketrans("", "", "‘’")
_STRAIGHT_QUOTES = str.maketrans("‘’", "''")
_LAUGH_ZH = re.compile("哈{2,}")
_LAUGH_EN = re.compile(r"\b(ha(\s*ha)+)\b", re.IGNORECASE)
_DASHES_V1 = re.compile(r"\.\.\.|[⸺―—…]")
_PAUSES = str.maketrans("；：、;:", "，，，,,")
_PUNCTUATION_RUN = re.compile(r"([，。？！,.?!])[，。？！,.?!]+")
_ENDINGS = {"，": "。", ",": "."}
_MAX_DIGITS = 4


def delete_decoration(text: str) -> str:
    """Delete brackets, quotes, hyphens, underscores and waves that are not spoken.

    >>> delete_decoration("《书》【a】（b）『c』「d」~～-_“e”")
    '书abcde'
    """
    return text.translate(_DECORATION)


def delete_quotes(text: str) -> str:
    """Delete curly single quotes (v1.0 only).

    >>> delete_quotes("A’s")
    'As'
    """
    return text.translate(_QUOTES)


def mark_laughter(text: str) -> str:
    """Write laughter as the events that the model knows.

    >>> mark_laughter("哈哈哈，好笑"), mark_laughter("Ha ha!")
    ('[笑]，好笑', '[laugh]!')
    """
    return _LAUGH_EN.sub("[laugh]", _LAUGH_ZH.sub("[笑]", text))


def comma_for_double_dashes(text: str) -> str:
    """Chinese dashes and ellipses, which are two characters long, become a comma.

    >>> comma_for_double_dashes("嗯……好——的")
    '嗯，好，的'
    """
    return text.replace("——", "，").replace("……", "，")


def comma_for_dashes(text: str) -> str:
    """Dashes and ellipses of any other length become a comma (v1.0 only).

    >>> comma_for_dashes("well...yes—no…")
    'well，yes，no，'
    """
    return _DASHES_V1.sub("，", text)


def comma_for_pauses(text: str) -> str:
    """Colons, semicolons and enumeration commas become commas.

    >>> comma_for_pauses("一；二：三、four;five:six")
    '一，二，三，four,five,six'
    """
    return text.translate(_PAUSES)


def strip(text: str) -> str:
    """Drop white space at both ends.

    >>> strip(" a ")
    'a'
    """
    return text.strip()


def collapse_punctuation(text: str) -> str:
    """Of neighbouring punctuation marks only the first stays (v1.0 only).

    >>> collapse_punctuation("wow!!??。。")
    'wow!'
    """
    return _PUNCTUATION_RUN.sub(r"\1", text)


def finish_sentence(text: str) -> str:
    """A comma at the end becomes a full stop; Chinese full stops before the end become commas.

    >>> finish_sentence("好。是，"), finish_sentence("yes,"), finish_sentence("，")
    ('好，是。', 'yes.', '，')
    """
    if len(text) < 2:
        return text
    return text[:-1].replace("。", "，") + _ENDINGS.get(text[-1], text[-1])


RULES: dict[Normalization, tuple[Rule, ...]] = {
    "none": (),
    "v0.7": (
        delete_decoration,
        mark_laughter,
        comma_for_double_dashes,
        comma_for_pauses,
        strip,
        finish_sentence,
    ),
    "v1.0": (
        delete_decoration,
        delete_quotes,
        mark_laughter,
        comma_for_double_dashes,
        comma_for_dashes,
        comma_for_pauses,
        strip,
        collapse_punctuation,
        finish_sentence,
    ),
}


def normalize_text(text: str, rules: Normalization) -> str:
    """Apply the rules of a checkpoint to a whole script in MOSS-TTSD's notation.

    Args:
        text: `[S1]...[S2]...`; a bare `[1]` counts as `[S1]`.
        rules: whose; "none" changes nothing.

    >>> normalize_text("[S1]你好；世界，[S1]哈哈", "v0.7")
    '[S1]你好，世界。[笑]'
    """
    if rules == "none":
        return text
    # Only the first part can be without a tag, so equal neighbours always share a speaker.
    groups = groupby(_normalized_parts(text, rules), key=itemgetter(0))
    merged = ((tag + "".join(map(itemgetter(1), parts))).strip() for tag, parts in groups)
    return "".join(merged).translate(_STRAIGHT_QUOTES)


def normalize_script(script: Script, rules: Normalization) -> Script:
    """Apply the rules of a checkpoint turn by turn.

    A bare `[2]` in a turn begins a new turn. Neighbouring turns of the same speaker become one,
    and turns of which nothing is left are dropped.

    Args:
        script: as parsed.
        rules: whose; "none" changes nothing.

    Returns:
        A script whose turns keep the place of the first of their parts.

    Raises:
        ScriptError: nothing is left to say.
    """
    if rules == "none":
        return script
    parts = [
        Turn(_speaker(tag, turn), content.translate(_STRAIGHT_QUOTES), turn.line, turn.column)
        for turn in script.turns
        for tag, content in _normalized_parts(f"[S{turn.speaker}]{turn.text}", rules)
    ]
    spoken = filter(attrgetter("text"), parts)
    groups = (list(group) for _, group in groupby(spoken, key=attrgetter("speaker")))
    turns = tuple(replace(group[0], text="".join(t.text for t in group)) for group in groups)
    if not turns:
        first = script.turns[0]
        raise ScriptError("nothing is left to say after normalisation", first.line, first.column)
    return Script(turns, script.format, script.names)


def _normalized_parts(text: str, rules: Normalization) -> list[tuple[str, str]]:
    """Tag (or nothing) and content of every part, before neighbours are merged."""
    text = _BARE_TAG.sub(r"[S\1]", text).replace("\n", " ")
    parts = []
    for part in filter(None, map(str.strip, _BEFORE_TAG.split(text))):
        match = _TAGGED.match(part)
        tag, content = match.groups() if match else ("", part)
        for rule in RULES[rules]:
            content = rule(content)
        parts.append((tag, content))
    return parts


def _speaker(tag: str, turn: Turn) -> int:
    digits = tag[2:-1]
    if not 1 <= len(digits) <= _MAX_DIGITS:
        raise ScriptError(f"{tag!r:.40} is no speaker", turn.line, turn.column)
    return int(digits)
