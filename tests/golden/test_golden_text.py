# SPDX-License-Identifier: Apache-2.0
"""Text rules, batch items and prompts against recordings of MOSS-TTSD v0.7 and v1.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
    WindowConfig,
    WindowStep,
)
from duologue.runtime.core import ChannelSampling, Voice
from duologue.runtime.errors import RequestError
from duologue.runtime.text.items import parse_item
from duologue.runtime.text.normalize import normalize_script, normalize_text
from duologue.runtime.text.prompt import build_prompt
from duologue.runtime.text.script import parse_script
from duologue.runtime.text.tokenizer import TextTokenizer

DATA = Path(__file__).parent / "data"
LM_SCALED = DATA / "lm_scaled"
TOKENIZER = TextTokenizer.from_file(LM_SCALED / "tokenizer.json")
RECORDED: dict[str, Any] = json.loads((DATA / "golden_text.json").read_text(encoding="utf-8"))


def _pairs(name: str) -> list[Any]:
    return [pytest.param(*pair, id=str(index)) for index, pair in enumerate(RECORDED[name])]


@pytest.mark.parametrize(("text", "expected"), _pairs("normalize_v0.7"))
def test_v07_rules_write_what_the_reference_writes(text: str, expected: str) -> None:
    assert normalize_text(text, "v0.7") == expected


@pytest.mark.parametrize(("text", "expected"), _pairs("normalize_v1.0"))
def test_v10_rules_write_what_the_reference_writes(text: str, expected: str) -> None:
    assert normalize_text(text, "v1.0") == expected


@pytest.mark.parametrize("rules", ["v0.7", "v1.0"])
def test_a_parsed_script_normalises_to_the_same_text(rules: Literal["v0.7", "v1.0"]) -> None:
    for text, expected in RECORDED[f"normalize_{rules}"]:
        if text:
            script = parse_script(text, max_speakers=10)
            assert normalize_script(script, rules).canonical == expected


def _read_json(name: str) -> Any:
    return json.loads((LM_SCALED / name).read_text(encoding="utf-8"))


def _bundle(prompt: str) -> Bundle:
    config, added = _read_json("config.json"), _read_json("tokenizer_config.json")
    ids = {token["content"]: int(id_) for id_, token in added["added_tokens_decoder"].items()}
    system, _, rest = prompt.removeprefix("<|begin_of_style|>").partition("<|end_of_style|>")
    head, _, tail = rest.partition("<|begin_of_text|>")
    tail = tail[tail.index("<|end_of_text|>") :]
    start, stop = config["speech_token_range"]
    return Bundle(
        name="golden",
        lm=LmConfig(
            vocab_sizes=(config["vocab_size"],) + (config["speech_vocab_size"],) * 7,
            delays=tuple(range(8)),
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
        ),
        tokens=TokenIds(
            start,
            stop,
            end_of_speech=ids["<|end_of_speech|>"],
            pad=config["pad_token_id"],
            speech_pad=config["speech_pad_token"],
            eos=(config["eos_token_id"],),
        ),
        prompt=PromptConfig(
            system=system,
            template=f"<|begin_of_style|>{{system}}<|end_of_style|>{head}<|begin_of_text|>{{text}}"
            + tail,
            speaker_tokens=("<speaker1>", "<speaker2>"),
        ),
        sampling=(ChannelSampling(),) * 8,
        codec=CodecConfig("none", 16000, 24000, 1280, 1920, 8, stop - start, 375),
        windows=WindowConfig((WindowStep(10, 5, 1),), 0),
        limits=LimitsConfig(max_rows=config["max_position_embeddings"]),
    )


def _text(prompt: str) -> str:
    text = prompt.partition("<|begin_of_text|>")[2].partition("<|end_of_text|>")[0]
    return text.replace("<speaker1>", "[S1]").replace("<speaker2>", "[S2]")


CASES = [
    pytest.param(case, row, prompt, id=f"{case}-{row}")
    for case, recorded in _read_json("golden/summary.json").items()
    for row, prompt in enumerate(recorded["prompts"])
]
TRANSCRIPT = "[S1]Ref one.[S2]Ref two."


@pytest.mark.parametrize(("case", "row", "prompt"), CASES)
def test_prompts_are_those_that_the_reference_built(case: str, row: int, prompt: str) -> None:
    with np.load(LM_SCALED / "golden" / f"{case}.npz") as recorded:
        expected = recorded[f"unshifted_{row}"]
        codes = recorded.get(f"prompt_codes_{row}")
    text = _text(prompt)
    voices: dict[int, Voice] = {}
    if codes is not None:
        assert text.startswith(TRANSCRIPT)
        text = text.removeprefix(TRANSCRIPT)
        voices = {1: Voice(codes.T[:, :2], "Ref one."), 2: Voice(codes.T[:, 2:], "Ref two.")}
    script = parse_script(text, max_speakers=2)
    bundle = _bundle(prompt)
    built = build_prompt(script, voices, bundle, TOKENIZER)
    np.testing.assert_array_equal(built.aligned_ids, expected)
    if codes is not None:
        merged = {1: Voice(codes.T, TRANSCRIPT)}
        again = build_prompt(script, merged, bundle, TOKENIZER)
        np.testing.assert_array_equal(again.aligned_ids, expected)


@pytest.mark.parametrize(("value", "expected"), _pairs("process_jsonl_item_v0.7"))
def test_batch_items_are_read_or_refused_as_by_the_reference(
    value: dict[str, Any], expected: dict[str, str]
) -> None:
    if "error" in expected:
        with pytest.raises(RequestError) as caught:
            parse_item(value, strict_reference=True)
        assert f"ValueError: {caught.value}" == expected["error"]
        return
    item = parse_item(value, strict_reference=True)
    assert item.text == expected["text"]
    assert item.prompt_text == expected["prompt_text"]
    assert [prompt.path for prompt in item.prompts] == [expected["prompt_audio"]]
