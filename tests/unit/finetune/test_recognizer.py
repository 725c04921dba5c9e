from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.finetune.evaluate.recognizer import ClosedRecognizer, count_word_errors

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@given(first=WORDS, second=WORDS, third=WORDS)
def test_word_errors_are_a_distance(first: list[str], second: list[str], third: list[str]) -> None:
    errors = count_word_errors(first, second)
    assert (errors == 0) == (first == second)
    assert errors == count_word_errors(second, first)
    assert errors <= count_word_errors(first, third) + count_word_errors(third, second)
    assert errors <= max(len(first), len(second))


def test_only_words_with_a_pronunciation_are_expected() -> None:
    pytest.importorskip("pocketsphinx")
    recognizer = ClosedRecognizer(["[S1]The tea is cold.", "[S2]Xqzzt."])
    assert recognizer.known_words("[S1]The xqzzt tea") == ["the", "tea"]
    noise = np.random.default_rng(0).normal(0, 0.01, 8000).astype(np.float32)
    assert set(recognizer.hear(noise, 24_000)) <= {"the", "tea", "is", "cold"}
