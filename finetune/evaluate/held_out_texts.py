# SPDX-License-Identifier: Apache-2.0
"""Text that training has never shown: sentences of held-out templates, and held-out words."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from duologue.finetune.speech_data.dialogues import Sentences
from duologue.finetune.speech_data.held_out import is_held_out_text, is_held_out_word
from duologue.finetune.speech_data.lexicon import Lexicon
from duologue.finetune.speech_data.maker import sentence_maker
from duologue.runtime.errors import ConfigError

_COMMON = 30
_KINDS = ("n", "v", "i", "l")
_WORD_SEED = 3


@dataclass(frozen=True, slots=True)
class HeldOutTexts:
    """Where the texts of the suites come from.

    Attributes:
        sentences: language -> maker of sentences.
        words: language -> single words, in an order that chance has given them.
    """

    sentences: Mapping[str, Sentences]
    words: Mapping[str, Sequence[str]]


def load_texts() -> HeldOutTexts:
    """Read word lists and dictionaries.

    Raises:
        ConfigError: WordNet, the word list or jieba is not installed; says what to install.
    """
    makers = {language: sentence_maker(language, "test") for language in ("en", "cmn")}
    return HeldOutTexts(makers, {"en": _english_words(), "cmn": _mandarin_words()})


def _english_words() -> list[str]:
    bags = Lexicon.load().bags
    names = ("animal", "thing", "food", "object", "person", "plant", "adjective", "transitive")
    words = {word for name in names for word in bags[name].words if is_held_out_word(word)}
    return _shuffled(words)


def _mandarin_words() -> list[str]:
    spec = importlib.util.find_spec("jieba")
    if spec is None or spec.origin is None:
        raise ConfigError("jieba is not installed; allowed: pip install 'duologue[train]'")
    lines = Path(spec.origin).with_name("dict.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split() for line in lines]
    # A held-out word may be part of a longer one, which training does show.
    shown = "\n".join(word for word, *_ in entries if not is_held_out_text(word))
    return _shuffled(
        {
            word
            for word, count, kind in entries
            if kind in _KINDS
            and 2 <= len(word) <= 4
            and int(count) > _COMMON
            and is_held_out_text(word)
            and word not in shown
        }
    )


def _shuffled(words: set[str]) -> list[str]:
    return Random(_WORD_SEED).sample(sorted(words), len(words))
