# SPDX-License-Identifier: Apache-2.0
"""Word errors by pocketsphinx, which hears nothing but the words of the test sentences.

With an open vocabulary that recogniser gets most words of synthetic voices wrong; with a closed
one, the difference between the model and its reference says something.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from duologue.runtime.audio import resample_sinc_hann, to_int16
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineUnavailableError

_RATE_HZ = 16_000
_WORD = re.compile(r"[a-z']+")
_SEARCH = "words"


class ClosedRecognizer:
    """Recognises any order of the words of some texts.

    Args:
        texts: whose words are known; words without a known pronunciation are left out.

    Raises:
        EngineUnavailableError: pocketsphinx is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise EngineUnavailableError(
                "counting word errors needs pocketsphinx: pip install pocketsphinx"
            ) from error
        self._decoder: Any = Decoder(samprate=_RATE_HZ, lm=None, loglevel="FATAL")
        words = sorted({word for text in texts for word in words_of(text)})
        self._known = {word for word in words if self._decoder.lookup_word(word) is not None}
        choices = " | ".join(sorted(self._known))
        grammar = f"#JSGF V1.0; grammar g; public <s> = ( {choices} )+;"
        self._decoder.add_jsgf_string(_SEARCH, grammar)
        self._decoder.activate_search(_SEARCH)

    def hear(self, samples: FloatArray, sample_rate_hz: int) -> list[str]:
        """The words that are heard in mono samples [N]."""
        wave = to_int16(resample_sinc_hann(samples, sample_rate_hz, _RATE_HZ))
        self._decoder.start_utt()
        self._decoder.process_raw(wave.tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return [] if heard is None else words_of(heard.hypstr)

    def known_words(self, text: str) -> list[str]:
        """The words of a text that the recogniser can hear."""
        return [word for word in words_of(text) if word in self._known]


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
