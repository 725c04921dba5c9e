# SPDX-License-Identifier: Apache-2.0
"""Word errors by pocketsphinx, which knows nothing but the words of the test sentences.

With an open vocabulary that recogniser gets most words of synthetic voices wrong. With a closed
one, in which words that follow each other in the sentences are likelier to do so, the difference
between the model and its reference says something. (Any order of the words alike would be
judged worse and take ten times as long: seven in ten of espeak-ng's own words are then wrong.)
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from duologue.runtime.audio import resample_sinc_hann, to_int16
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineUnavailableError

_RATE_HZ = 16_000
_SILENCE_S = 0.15
_WORD = re.compile(r"[a-z']+")
_SEARCH = "words"
_START, _END = "<s>", "</s>"
# Of all that may follow a word; the rest is shared by all words alike.
_SHARE_OF_PAIRS = 0.9


class ClosedRecognizer:
    """Recognises the words of some texts, in any order, but sooner in that of the texts.

    Args:
        texts: whose words are known; words without a known pronunciation are left out.

    Raises:
        EngineUnavailableError: pocketsphinx is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            from pocketsphinx import Decoder, NGramModel
        except ImportError as error:
            raise EngineUnavailableError(
                "counting word errors needs pocketsphinx: pip install pocketsphinx"
            ) from error
        self._decoder: Any = Decoder(samprate=_RATE_HZ, lm=None, loglevel="FATAL")
        words = {word for text in texts for word in words_of(text)}
        self._known = {word for word in words if self._decoder.lookup_word(word) is not None}
        model = pairs_model([self.known_words(text) for text in texts], self._known)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.lm"
            path.write_text(model, encoding="utf-8")
            pairs = NGramModel(self._decoder.config, self._decoder.logmath, str(path))
        self._decoder.add_lm(_SEARCH, pairs)
        self._decoder.activate_search(_SEARCH)

    def hear(self, samples: FloatArray, sample_rate_hz: int) -> list[str]:
        """The words that are heard in mono samples [N]."""
        silence = round(_SILENCE_S * _RATE_HZ)
        wave = np.pad(resample_sinc_hann(samples, sample_rate_hz, _RATE_HZ), silence)
        self._decoder.start_utt()
        self._decoder.process_raw(to_int16(wave).tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return [] if heard is None else words_of(heard.hypstr)

    def known_words(self, text: str) -> list[str]:
        """The words of a text that the recogniser can hear."""
        return [word for word in words_of(text) if word in self._known]


def pairs_model(sentences: Sequence[Sequence[str]], vocabulary: Collection[str]) -> str:
    """A language model of pairs of words, in the ARPA format.

    Args:
        sentences: words in the order in which they follow each other.
        vocabulary: all words; any may follow any other, though seldom.

    >>> pairs_model([["a"]], ["a"]).splitlines()[5:8]
    ['-99.0000 <s> -1.0000', '-0.3010 </s> 0.0000', '-0.3010 a -1.0000']
    """
    framed = [[_START, *words, _END] for words in sentences]
    pairs = Counter(pair for words in framed for pair in pairwise(words))
    before = Counter(word for words in framed for word in words[:-1])
    alike = 1 / (len(vocabulary) + 1)
    likely, back_off = math.log10(alike), math.log10(1 - _SHARE_OF_PAIRS)
    singles = [(-99.0, _START, back_off), (likely, _END, 0.0)]
    singles += [(likely, word, back_off) for word in sorted(vocabulary)]
    lines = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines += [f"{score:.4f} {word} {weight:.4f}" for score, word, weight in singles]
    lines += ["", "\\2-grams:"]
    for (first, second), count in sorted(pairs.items()):
        share = _SHARE_OF_PAIRS * count / before[first] + (1 - _SHARE_OF_PAIRS) * alike
        lines.append(f"{math.log10(share):.4f} {first} {second}")
    return "\n".join([*lines, "", "\\end\\", ""])


def words_of(text: str) -> list[str]:
    """Words in small letters, speaker tags and punctuation left out.

    >>> words_of("[S1]It's late.[S2]Is it?")
    ["it's", 'late', 'is', 'it']
    """
    return _WORD.findall(re.sub(r"\[S\d+\]", " ", text).lower())


def count_word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest words to insert, delete or replace.

    >>> count_word_errors(["a", "b", "c"], ["a", "x", "c", "d"])
    2
    """
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, start=1):
            replaced = diagonal + (word != other)
            diagonal = row[column]
            row[column] = min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]
