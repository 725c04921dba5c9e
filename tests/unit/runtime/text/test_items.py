# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.errors import RequestError
from duologue.runtime.text.items import BatchItem, PromptAudio, parse_item, read_jsonl


def test_a_bad_line_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a"}\r\n\n# note\n  // note\n{"text"\n\xff\n[1]\n'
        b'{"text": "\xe5\xa5\xbd"}'
    )
    lines = list(read_jsonl(path))
    assert [line.number for line in lines] == [1, 5, 6, 7, 8]
    assert [line.value for line in lines if line.error is None] == [{"text": "a"}, {"text": "好"}]
    errors = [str(line.error) for line in lines if line.error]
    for error, words in zip(
        errors, ["line 5: no JSON", "line 6: no UTF-8", "line 7: list"], strict=True
    ):
        assert error.startswith(words)


def test_lines_may_come_from_anywhere() -> None:
    lines = list(read_jsonl(iter(["\ufeff{}", '[{"a":' * 100_000])))
    assert lines[0].value == {}
    assert lines[1].value is None
    assert isinstance(lines[1].error, RequestError)


def test_a_missing_file_is_a_request_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        list(read_jsonl(str(tmp_path / "none.jsonl")))


def test_text_alone_is_enough_unless_the_reference_is_followed() -> None:
    assert parse_item({"text": "x"}) == BatchItem("x")
    assert parse_item(
        {"text": "x", "prompt_audio": "", "prompt_audio_speaker1": None}
    ) == BatchItem("x")
    with pytest.raises(RequestError, match="Text-only"):
        parse_item({"text": "x"}, strict_reference=True)


def test_one_sided_voices_are_enough_unless_the_reference_is_followed() -> None:
    item = {"text": "x", "prompt_audio_speaker2": "/b.wav", "prompt_text_speaker2": "b"}
    assert parse_item(item).prompts == (PromptAudio(2, "/b.wav", "b"),)
    with pytest.raises(RequestError, match="Text-only"):
        parse_item(item, strict_reference=True)


@pytest.mark.parametrize("strict_reference", [False, True])
def test_voices_per_speaker_are_joined_with_the_base_path(strict_reference: bool) -> None:
    item = {
        "text": "x",
        "base_path": "audio/",
        "prompt_audio_speaker2": "b.wav",
        "prompt_text_speaker1": "one",
        "prompt_audio_speaker1": "a.wav",
        "prompt_text_speaker2": "two",
    }
    parsed = parse_item(item, strict_reference=strict_reference)
    assert [(p.speaker, p.path) for p in parsed.prompts] == [
        (1, os.path.join("audio/", "a.wav")),
        (2, os.path.join("audio/", "b.wav")),
    ]
    assert parsed.prompt_text == "[S1]one[S2]two"


def test_an_empty_transcript_is_left_out_of_the_prompt_text() -> None:
    item = {"text": "x", "prompt_audio_speaker1": "a", "prompt_audio_speaker2": "b"}
    assert parse_item(item | {"prompt_text_speaker2": "two"}).prompt_text == "[S2]two"


def test_the_transcript_of_a_merged_recording_keeps_its_white_space() -> None:
    item = parse_item({"text": "x", "prompt_audio": "/a.wav", "prompt_text": " [S1]p "})
    assert item.prompt_text == " [S1]p "


def test_five_speakers_are_read_and_the_reference_takes_two() -> None:
    item = {"text": "x"} | {f"prompt_audio_speaker{n}": f"/{n}.wav" for n in (3, 1, 2)}
    assert [p.speaker for p in parse_item(item).prompts] == [1, 2, 3]
    assert [p.speaker for p in parse_item(item, strict_reference=True).prompts] == [1, 2]


def test_a_relative_path_without_a_base_is_refused_only_by_the_reference() -> None:
    item = {"text": "x", "prompt_audio": "a.wav", "prompt_text": "[S1]p"}
    assert parse_item(item).prompts == (PromptAudio(None, "a.wav", "[S1]p"),)
    with pytest.raises(RequestError, match=r"must be absolute\. Got: a\.wav"):
        parse_item(item, strict_reference=True)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({}, "no text"),
        ({"text": " "}, "no text"),
        ({"text": 3}, "text is 3"),
        ({"text": "x", "prompt_audio": ["a", 16000]}, "prompt_audio is"),
        ({"text": "x", "prompt_audio": "a\0"}, "NUL"),
        ({"text": "x", "prompt_audio": "a", "base_path": 1}, "base_path is 1"),
        ({"text": "x", "prompt_audio": "a", "prompt_text": {}}, "prompt_text is"),
    ],
)
def test_a_malformed_item_is_a_request_error(item: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        parse_item(item)


@given(st.lists(st.text()))
def test_every_line_gives_a_value_or_an_error(lines: list[str]) -> None:
    for line in read_jsonl(lines):
        assert (line.value is None) == (line.error is not None)
        assert 1 <= line.number <= len(lines)
