# SPDX-License-Identifier: Apache-2.0
"""English forms of verbs and nouns: rules, and WordNet's lists of exceptions."""

from __future__ import annotations

import re

from duologue.finetune.speech_data.lexicon import Lexicon

_CONSONANT_Y = re.compile(r".*[^aeiou]y")
_HISSING = re.compile(r".*(s|x|z|ch|sh)")
_SHORT_STRESSED = re.compile(r"[^aeiou]*[aeiou][bdgklmnprt]")


def article(phrase: str) -> str:
    """The phrase with "a" or "an" in front, by its first letter.

    >>> article("red apple"), article("apple")
    ('a red apple', 'an apple')
    """
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def plural(noun: str, lexicon: Lexicon) -> str:
    """More than one."""
    return lexicon.irregular_nouns.get(noun) or _with_s(noun)


def third_person(verb: str) -> str:
    """As after "he".

    >>> third_person("carry"), third_person("watch"), third_person("sing")
    ('carries', 'watches', 'sings')
    """
    return _with_s(verb)


def past(verb: str, lexicon: Lexicon) -> str:
    """As after "yesterday she"."""
    forms = lexicon.irregular_verbs.get(verb, ())
    irregular = [form for form in forms if not form.endswith("ing")]
    return irregular[0] if irregular else _with_suffix(verb, "ed")


def gerund(verb: str) -> str:
    """As after "is".

    >>> gerund("make"), gerund("run"), gerund("open"), gerund("lie")
    ('making', 'running', 'opening', 'lying')
    """
    return verb[:-2] + "ying" if verb.endswith("ie") else _with_suffix(verb, "ing")


def _with_s(word: str) -> str:
    if _CONSONANT_Y.fullmatch(word):
        return word[:-1] + "ies"
    return word + ("es" if _HISSING.fullmatch(word) or word.endswith("o") else "s")


def _with_suffix(verb: str, suffix: str) -> str:
    if verb.endswith("e") and suffix.startswith("e"):
        return verb + suffix[1:]
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + suffix
    if _CONSONANT_Y.fullmatch(verb) and suffix == "ed":
        return verb[:-1] + "ied"
    if _SHORT_STRESSED.fullmatch(verb):
        return verb + verb[-1] + suffix
    return verb + suffix
