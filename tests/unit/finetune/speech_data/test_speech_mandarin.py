# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from duologue.finetune.speech_data.mandarin import (
    HELD_OUT,
    QUESTIONS,
    REPLIES,
    SHORT,
    STATEMENTS,
    MandarinSentences,
    spell_mandarin,
)

KINDS = "n v a nr ns vn d i l t s z".split()  # noqa: SIM905


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "dict.txt"
    lines = [
        f"{first}{second} 20 {kind}" for kind in KINDS for first in "天地人" for second in "山水火"
    ]
    path.write_text(
        "\n".join([*lines, "AB 5 n", "很长很长的词 3 n", "不用 9 xyz"]), encoding="utf-8"
    )
    return path


def test_every_template_is_filled_with_characters_and_marks(dictionary: Path) -> None:
    sentences = MandarinSentences(held_out=False, dictionary=dictionary)
    for templates in (STATEMENTS, QUESTIONS, REPLIES, SHORT, HELD_OUT):
        for template in templates:
            text = sentences._fill((template,), Random(0))
            assert re.fullmatch(r"[\u4e00-\u9fff，、。？！]+", text), template


def test_tests_use_templates_that_training_does_not(dictionary: Path) -> None:
    assert not set(HELD_OUT) & {*STATEMENTS, *QUESTIONS, *REPLIES, *SHORT}
    sentences = MandarinSentences(held_out=True, dictionary=dictionary)
    shapes = {re.sub(r"\{\w+\}", ".+", template) for template in HELD_OUT}
    for seed in range(20):
        text = sentences.sentence(Random(seed))
        assert any(re.fullmatch(shape, text) for shape in shapes)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "零"), (10, "十"), (20, "二十"), (99, "九十九"), (110, "一百一十"), (1001, "一千零一")],
)
def test_numbers_are_said_as_people_say_them(number: int, words: str) -> None:
    assert spell_mandarin(number) == words
