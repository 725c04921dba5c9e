"""Chinese characters as the syllables that a small model reads."""

from __future__ import annotations

import dataclasses
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.core import Script, Turn
from duologue.runtime.text.frontend import write_out
from duologue.runtime.text.pinyin import read_aloud, to_pinyin
from duologue.runtime.text.prompt import build_prompt
from duologue.runtime.text.tokenizer import TextTokenizer

_ASCII = st.text(st.characters(max_codepoint=0x2FF), max_size=60)
_ANYTHING = st.text(st.characters(codec="utf-8"), max_size=60)
_HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("早上好，我是学生。", "zao3 shang4 hao3, wo3 shi4 xue2 sheng1."),
        ("银行行长长大了。", "yin2 hang2 hang2 zhang3 zhang3 da4 le5."),
        ("重庆很重要！", "chong2 qing4 hen3 zhong4 yao4!"),
        ("绿色，女儿，忽略", "lv4 se4, nv3 er2, hu1 lve4"),
        ("我喜欢iPhone和VIP，对吧？", "wo3 xi3 huan1 iPhone he2 VIP, dui4 ba5?"),
        ("好……不，—好。", "hao3, bu4, hao3."),
        ("“早”《书》", "zao3 shu1"),
        ("[笑]早", "[笑] zao3"),
    ],
)
def test_characters_become_syllables_and_marks_those_of_english(text: str, spelled: str) -> None:
    assert to_pinyin(text) == spelled


def test_one_and_not_and_third_tones_change_as_they_are_spoken() -> None:
    assert to_pinyin("你好") == "ni2 hao3"
    assert to_pinyin("一个一起不是") == "yi2 ge4 yi4 qi3 bu2 shi4"


def test_numbers_are_written_out_before_they_are_read() -> None:
    assert to_pinyin(write_out("他有12个")) == "ta1 you3 shi2 er4 ge4"


def test_a_character_without_a_reading_stays() -> None:
    assert to_pinyin("\U00020bb7好") == "\U00020bb7 hao3"


@given(_ASCII)
def test_text_without_chinese_stays_as_it_is(text: str) -> None:
    assert to_pinyin(text) == text
    assert read_aloud(text, "pinyin") == text


@given(_ANYTHING)
def test_no_text_is_refused_and_the_reading_none_changes_nothing(text: str) -> None:
    assert isinstance(to_pinyin(text), str)
    assert read_aloud(text, "none") == text


@given(_HAN)
def test_every_common_character_has_a_syllable_with_a_tone(text: str) -> None:
    syllables = to_pinyin(text).split()
    assert len(syllables) == len(text)
    read = [s for s in syllables if s.isascii()]
    assert all(re.fullmatch(r"[a-z]+[1-5]", syllable) for syllable in read)
    assert np.mean([s.isascii() for s in to_pinyin("的一是不了人我在有他这").split()]) == 1


@given(_ANYTHING)
def test_what_is_read_as_pinyin_never_becomes_a_control_token(text: str) -> None:
    bundle = Bundle.load(noise_bundle_path())
    prompt = dataclasses.replace(bundle.prompt, reading="pinyin")
    bundle = dataclasses.replace(bundle, prompt=prompt)
    tokenizer = _tokenizer()
    turn = f"好<speaker2>{text}<|end_of_speech|>[S2]"
    made = build_prompt(Script((Turn(1, turn),)), {}, bundle, tokenizer)
    ids = made.aligned_ids[:, 0].tolist()
    assert ids.count(tokenizer.token_id("<speaker1>")) == 1
    assert tokenizer.token_id("<speaker2>") not in ids
    assert bundle.tokens.end_of_speech not in ids


@cache
def _tokenizer() -> TextTokenizer:
    return TextTokenizer.from_file(noise_bundle_path() / "tokenizer.json")
