# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.core import Script, Turn
from duologue.runtime.errors import EngineUnavailableError
from duologue.runtime.text import frontend
from duologue.runtime.text.frontend import apply_frontend, write_out


def test_no_front_end_changes_nothing() -> None:
    script = Script((Turn(1, "3"),))
    assert apply_frontend(script, "none") is script


def test_each_turn_is_written_out_in_its_own_language() -> None:
    script = Script((Turn(1, "价格￥12.50。", 2, 3), Turn(2, "It costs $3.")), "names", ("a", "b"))
    written = apply_frontend(script, "zh_en")
    assert written.turns == (
        Turn(1, "价格十二点五零元。", 2, 3),
        Turn(2, "It costs three dollars."),
    )
    assert (written.format, written.names) == ("names", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2024年3月5日下午3:05，涨幅5%。", "二零二四年三月五日下午三点零五分，涨幅百分之五。"),
        ("我有3.5kg", "我有三点五千克"),
        ("At 3:05 pm, 5% of 3kg.", "At three o five PM, five percent of three kilograms."),
        ('He said "5" \\ [1] [laugh 2]  6 ', 'He said "five" \\ [1] [laugh 2]  six '),
        ("好[2]3“4”", "好[2]三“四”"),
        ("+5 or 6", "+5 or six"),
    ],
)
def test_numbers_are_written_out_and_the_rest_stays(text: str, written: str) -> None:
    assert write_out(text) == written


def test_a_long_text_is_written_out_sentence_by_sentence() -> None:
    assert write_out("I saw 12 dogs. " * 50) == "I saw twelve dogs. " * 50
    assert write_out("我有3只狗，" * 50) == "我有三只狗，" * 50


@given(st.text(alphabet="ab \n\t.,!?'’“”\"\\[]<>(){}:;-+#@é好，。；…😀"))
def test_text_without_digits_stays(text: str) -> None:
    assert write_out(text) == text


@given(st.text(alphabet='ab 1.,!?"\\[]<>(){}:;-+#@é好，。$%￥℃年月日'))
def test_any_text_can_be_written_out(text: str) -> None:
    assert bool(write_out(text).strip()) == bool(text.strip())


def test_a_missing_library_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wetext", None)
    frontend._writer.cache_clear()
    with pytest.raises(EngineUnavailableError, match=r"duologue\[text\]"):
        write_out("5")
    assert write_out("five") == "five"
    frontend._writer.cache_clear()
