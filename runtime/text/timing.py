# SPDX-License-Identifier: Apache-2.0
"""How long turns last, judged by their text alone.

The model marks no turns in its audio, so their borders are estimated: each turn gets a share
of the frames that is proportional to its weight. One Chinese character, a whole syllable, weighs
as much as three Latin letters; so does a digit, which is spoken as a word; a sentence's end is a
pause of about two letters and a comma of one.
"""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise

from duologue.runtime.config import LimitsConfig
from duologue.runtime.core import Script

_SYLLABLE_WEIGHT = 3
_FULL_STOPS = frozenset(".!?。！？…")
_FULL_STOP_WEIGHT = 2
_SYLLABIC = ((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF))
_SYLLABIC_FROM = 0x20000


def speech_weight(text: str) -> int:
    """Spoken length of a text in Latin letters, at least 1.

    >>> speech_weight("Hi!"), speech_weight("你好。"), speech_weight("7")
    (4, 8, 3)
    """
    return max(1, sum(map(_character_weight, text)))


def estimate_turn_spans(script: Script, num_frames: int) -> list[tuple[int, int]]:
    """Divide a stretch of frames among the turns of a script.

    Args:
        script: the turns that are spoken in it.
        num_frames: length of the stretch.

    Returns:
        One (start, end) per turn, end not included. They join without gaps and fill
        [0, num_frames); a turn may be empty where there are fewer frames than turns.

    >>> from duologue.runtime.core import Turn
    >>> estimate_turn_spans(Script((Turn(1, "ab"), Turn(2, "abcd"))), 60)
    [(0, 20), (20, 60)]
    """
    weights = [speech_weight(turn.text) for turn in script.turns]
    total = sum(weights)
    borders = [0]
    spoken = 0
    for weight in weights:
        spoken += weight
        borders.append(round(num_frames * spoken / total))
    return list(pairwise(borders))


def expected_frames(script: Script, limits: LimitsConfig) -> int:
    """Frames that a script takes at the model's usual pace.

    >>> from duologue.runtime.core import Turn
    >>> limits = LimitsConfig(max_rows=500, typical_frames_per_letter=1.0)
    >>> expected_frames(Script((Turn(1, "Hi, there"), Turn(2, "你好"))), limits)
    14
    """
    return round(_script_weight(script) * limits.typical_frames_per_letter)


def max_frames_for(script: Script, limits: LimitsConfig) -> int:
    """The cap on the speech of a script, at which a runaway ends.

    >>> from duologue.runtime.core import Turn
    >>> max_frames_for(Script((Turn(1, "Hi"),)), LimitsConfig(max_rows=500, min_frames=125))
    125
    """
    return max(limits.min_frames, math.ceil(_script_weight(script) * limits.frames_per_letter))


def _script_weight(script: Script) -> int:
    return sum(speech_weight(turn.text) for turn in script.turns)


def _character_weight(character: str) -> int:
    if character.isascii() and character.isalpha():
        return 1
    category = unicodedata.category(character)
    code = ord(character)
    if category[0] == "N":
        return _SYLLABLE_WEIGHT
    if category[0] == "L":
        is_syllable = code >= _SYLLABIC_FROM or any(a <= code <= b for a, b in _SYLLABIC)
        return _SYLLABLE_WEIGHT if is_syllable else 1
    if character in _FULL_STOPS:
        return _FULL_STOP_WEIGHT
    # Marks on letters and white space take no time of their own.
    return 1 if category[0] in "PS" else 0
