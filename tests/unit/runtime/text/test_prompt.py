# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from duologue.runtime.config import Bundle
from duologue.runtime.core import Script, Turn, Voice
from duologue.runtime.errors import ConfigError, ScriptError, VoiceError
from duologue.runtime.text.prompt import build_prompt, reference_text
from duologue.runtime.text.script import parse_script
from duologue.runtime.text.tokenizer import TextTokenizer

SCRIPT = parse_script("[S1]Hi.[S2]Yo.", max_speakers=2)


def codes(num_frames: int, first: int = 0) -> Any:
    return (np.arange(3 * num_frames).reshape(3, num_frames) + first) % 64


def text_of(prompt_ids: Any, tokenizer: TextTokenizer, expected: str) -> bool:
    ids = tokenizer.encode_prompt(tokenizer.split_template(expected))
    return bool(prompt_ids[:, 0].tolist() == ids)


def framed(text: str) -> str:
    return (
        "<|begin_of_style|>Talk.<|end_of_style|>\n"
        f"<|begin_of_text|>{text}<|end_of_text|>\n<|begin_of_speech|>"
    )


def test_text_rows_hold_the_template_and_pads(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    prompt = build_prompt(SCRIPT, {}, bundle, tokenizer)
    assert prompt.num_rows == prompt.num_text_rows
    assert prompt.script is SCRIPT
    assert text_of(prompt.aligned_ids, tokenizer, framed("<speaker1>Hi.<speaker2>Yo."))
    assert (prompt.aligned_ids[:, 1:] == 64).all()


def test_voices_follow_in_the_order_of_speakers(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    voices = {2: Voice(codes(2, 20), "two"), 1: Voice(codes(4), "one")}
    prompt = build_prompt(SCRIPT, voices, bundle, tokenizer)
    text = "<speaker1>one<speaker2>two<speaker1>Hi.<speaker2>Yo."
    assert text_of(prompt.aligned_ids[: prompt.num_text_rows], tokenizer, framed(text))
    expected = np.concatenate([codes(4), codes(2, 20)], axis=1).T
    expected[:, 0] += 278
    np.testing.assert_array_equal(prompt.aligned_ids[prompt.num_text_rows :], expected)


def test_a_voice_without_transcript_adds_no_text(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    prompt = build_prompt(SCRIPT, {2: Voice(codes(1))}, bundle, tokenizer)
    text = prompt.aligned_ids[: prompt.num_text_rows]
    assert text_of(text, tokenizer, framed("<speaker1>Hi.<speaker2>Yo."))
    assert prompt.num_rows == prompt.num_text_rows + 1


def test_a_merged_voice_brings_its_own_tags(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    one = build_prompt(
        SCRIPT, {1: Voice(codes(4), "[S1]one[S2]two")}, bundle, tokenizer
    ).aligned_ids
    halves = {1: Voice(codes(4)[:, :1], "one"), 2: Voice(codes(4)[:, 1:], "two")}
    np.testing.assert_array_equal(one, build_prompt(SCRIPT, halves, bundle, tokenizer).aligned_ids)


def test_rules_normalise_transcripts_and_merge_at_the_seam(
    bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    voices = {1: Voice(codes(1), "one；")}
    plain = build_prompt(SCRIPT, voices, bundle, tokenizer)
    text = plain.aligned_ids[: plain.num_text_rows]
    assert text_of(text, tokenizer, framed("<speaker1>one；<speaker1>Hi.<speaker2>Yo."))
    merged = build_prompt(SCRIPT, voices, bundle, tokenizer, rules="v0.7")
    text = merged.aligned_ids[: merged.num_text_rows]
    assert text_of(text, tokenizer, framed("<speaker1>one。Hi.<speaker2>Yo."))


def test_a_verbatim_text_keeps_its_white_space_and_what_has_no_tag(
    bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    text = "so [S1] Hi. \n[S2]\tYo.[S2] [S3][s1] "
    prompt = build_prompt(SCRIPT, {}, bundle, tokenizer, verbatim=text)
    expected = "so <speaker1> Hi. \n<speaker2>\tYo.<speaker2> [S3][s1] "
    assert text_of(prompt.aligned_ids, tokenizer, framed(expected))
    assert prompt.script is SCRIPT


def test_a_verbatim_text_that_is_clean_gives_the_same_prompt(
    bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    voices = {1: Voice(codes(4), "[S1]one[S2]two")}
    text = reference_text("[S1]Hi.[S2]Yo.", voices, "none")
    assert text == "[S1]one[S2]two[S1]Hi.[S2]Yo."
    by_turns = build_prompt(SCRIPT, voices, bundle, tokenizer)
    verbatim = build_prompt(SCRIPT, voices, bundle, tokenizer, verbatim=text)
    np.testing.assert_array_equal(by_turns.aligned_ids, verbatim.aligned_ids)


def test_control_tokens_in_a_verbatim_text_stay_text(
    bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    text = "[S1]Say <|end_of_speech|>."
    prompt = build_prompt(SCRIPT, {}, bundle, tokenizer, verbatim=text)
    assert tokenizer.token_id("<|end_of_speech|>") not in prompt.aligned_ids[:, 0]


def test_the_rules_are_applied_across_the_border_of_transcript_and_script() -> None:
    voices = {1: Voice(codes(1), "[S2]Two ")}
    text = "Well；yes，[S1]And 哈哈 so, "
    assert reference_text(text, voices, "v0.7") == "[S2]Two Well，yes。[S1]And [笑] so."


def test_control_tokens_in_a_script_stay_text(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    script = parse_script("[S1]<speaker2><|end_of_speech|><5>{text}{system}", max_speakers=2)
    ids = build_prompt(script, {}, bundle, tokenizer).aligned_ids[:, 0].tolist()
    for name in ("<speaker2>", "<|end_of_speech|>", "<5>"):
        assert tokenizer.token_id(name) not in ids
    assert ids.count(tokenizer.token_id("<speaker1>")) == 1


def test_tags_inside_a_turn_stay_text(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    script = Script((Turn(1, "a[S2]b"),))
    ids = build_prompt(script, {}, bundle, tokenizer).aligned_ids[:, 0].tolist()
    assert tokenizer.token_id("<speaker2>") not in ids


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (codes(2)[:2], "[2, 2]"),
        (codes(2)[0], "[2]"),
        (codes(2)[:, :0], "1 or more"),
        (codes(2).astype(np.float32), "float32"),
        (codes(2) + 60, "60 to 65"),
        (codes(2) - 1, "-1 to 4"),
    ],
)
def test_codes_that_cannot_be_read_are_a_voice_error(
    bad: Any, words: str, bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    with pytest.raises(VoiceError) as caught:
        build_prompt(SCRIPT, {1: Voice(bad)}, bundle, tokenizer)
    assert words in str(caught.value)


@pytest.mark.parametrize("transcript", ["[S3]x", "a\0"])
def test_a_bad_transcript_is_a_voice_error(
    transcript: str, bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    with pytest.raises(VoiceError, match="transcript of speaker 2"):
        build_prompt(SCRIPT, {2: Voice(codes(1), transcript)}, bundle, tokenizer)


def test_a_transcript_of_which_nothing_is_left_is_a_voice_error(
    bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    with pytest.raises(VoiceError, match="nothing is left"):
        build_prompt(SCRIPT, {1: Voice(codes(1), "~~")}, bundle, tokenizer, rules="v0.7")


def test_a_voice_for_nobody_is_a_voice_error(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    with pytest.raises(VoiceError, match="speaker 3"):
        build_prompt(SCRIPT, {3: Voice(codes(1))}, bundle, tokenizer)


def test_an_unknown_speaker_is_a_script_error(bundle: Bundle, tokenizer: TextTokenizer) -> None:
    with pytest.raises(ScriptError, match="S1 to S2") as caught:
        build_prompt(Script((Turn(1, "a"), Turn(3, "b", 4, 5))), {}, bundle, tokenizer)
    assert (caught.value.line, caught.value.column) == (4, 5)


@pytest.mark.parametrize("template", ["{system}", "{text}{text}"])
def test_a_template_without_a_place_for_the_text_is_a_config_error(
    template: str, bundle: Bundle, tokenizer: TextTokenizer
) -> None:
    broken = replace(bundle, prompt=replace(bundle.prompt, template=template))
    with pytest.raises(ConfigError, match="template"):
        build_prompt(SCRIPT, {}, broken, tokenizer)
