# SPDX-License-Identifier: Apache-2.0
"""How a voice may be called: words of any script, and nothing that could be a path."""

from __future__ import annotations

import unicodedata

from duologue.runtime.errors import VoiceError

MAX_NAME_CHARS = 64
# The answer to these is the model's own choice.
DEFAULT_NAMES = ("", "default")

_ALLOWED = (
    f"1 to {MAX_NAME_CHARS} letters, digits, spaces, '.', '_' and '-', the first a letter or digit"
)
_PUNCTUATION = " ._-"


def check_voice_name(name: str) -> str:
    """Refuse what cannot be the name of a voice.

    Args:
        name: as somebody wrote it.

    Returns:
        The name in Unicode's composed form (NFC), so that one word is one name.

    Raises:
        VoiceError: empty, too long, reserved, or with characters that are not allowed.

    >>> check_voice_name("女性温柔"), check_voice_name("Ann-2")
    ('女性温柔', 'Ann-2')
    >>> check_voice_name("../x")
    Traceback (most recent call last):
    ...
    duologue.runtime.errors.VoiceError: the voice name '../x' cannot be used; allowed: 1 to 64 \
letters, digits, spaces, '.', '_' and '-', the first a letter or digit
    """
    # Before any work on it: a name may be a whole body.
    shown = name[:MAX_NAME_CHARS]
    composed = unicodedata.normalize("NFC", name) if len(name) <= 4 * MAX_NAME_CHARS else name
    if composed in DEFAULT_NAMES:
        raise VoiceError(f"the voice name {shown!r} is reserved for the model's own choice")
    fits = len(composed) <= MAX_NAME_CHARS and composed == composed.strip()
    if not (fits and _is_word(composed[0], "LN") and ".." not in composed):
        raise VoiceError(f"the voice name {shown!r} cannot be used; allowed: {_ALLOWED}")
    if not all(_is_word(letter, "LMN") or letter in _PUNCTUATION for letter in composed):
        raise VoiceError(f"the voice name {shown!r} cannot be used; allowed: {_ALLOWED}")
    return composed


def _is_word(letter: str, groups: str) -> bool:
    """Whether a character is a letter (L), a mark on one (M) or a number (N)."""
    return unicodedata.category(letter)[0] in groups
