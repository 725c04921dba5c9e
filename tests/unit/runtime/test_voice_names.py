"""Names of voices: words of any script, never a path."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_names import MAX_NAME_CHARS, check_voice_name


@pytest.mark.parametrize(
    "name", ["女性温柔", "Ann", "ann 2", "custom_voice_001", "v1.0", "Zoë", "नमस्ते", "Ä", "7"]
)
def test_words_are_names(name: str) -> None:
    assert check_voice_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "a/b", "a\\b", "..", ".", ".hidden", "-rf", " a", "a ", "a..b", "a\x00b", "a\nb"),
        *("a" * 65, "a" * 1_000_000, "\ud800", "\u202eabc", "a\u200bb", "<b>", "a:b", "~", "$HOME"),
    ],
)
def test_what_could_be_something_else_is_no_name(name: str) -> None:
    with pytest.raises(VoiceError, match="cannot be used; allowed: 1 to 64"):
        check_voice_name(name)


@pytest.mark.parametrize("name", ["", "default"])
def test_the_names_of_the_models_own_choice_are_reserved(name: str) -> None:
    with pytest.raises(VoiceError, match="reserved"):
        check_voice_name(name)


def test_one_word_written_in_two_ways_is_one_name() -> None:
    assert check_voice_name("Zoe\u0308") == check_voice_name("Zo\u00eb")


@given(st.text(max_size=80))
def test_a_name_is_one_harmless_part_of_a_path_and_stays_what_it_is(text: str) -> None:
    try:
        name = check_voice_name(text)
    except VoiceError:
        return
    assert check_voice_name(name) == name
    assert len(name) <= MAX_NAME_CHARS
    assert Path("/store", name).resolve().parent == Path("/store")
    name.encode()
