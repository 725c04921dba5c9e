from __future__ import annotations

from typing import Any

import pytest

from duologue.build_engines.moss_ttsd import PROMPT, check_tokens
from duologue.build_engines.options import ENGINES, BuildOptions
from duologue.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engines": ()}, "allowed: some of torch, onnx, trtllm"),
        ({"engines": ("onnx", "vllm")}, "vllm.*allowed"),
        ({"dtype": "int4"}, "dtype is 'int4'; allowed: float32, float16, bfloat16"),
        ({"codec_dtype": "fp16"}, "codec_dtype is 'fp16'; allowed: float32"),
        ({"quantization": "int2"}, "quantization is 'int2'; allowed: None, int8, int4, fp8"),
        ({"quantization": "fp8"}, "'fp8' and engines is .*onnx.*; allowed with torch among them"),
        ({"quantization": "fp8", "engines": ("trtllm",)}, "allowed with torch among them"),
        ({"quantization": "int4", "engines": ("torch",)}, "allowed with onnx among them"),
        ({"quantization": "int8", "engines": ("trtllm",)}, "allowed with onnx or torch among them"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0; allowed: 1 or more"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"max_slots": -1}, "max_slots is -1"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_read(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        BuildOptions(**fields)


@pytest.mark.parametrize(
    ("quantization", "engines"),
    [("int8", ["torch", "onnx"]), ("int4", ["onnx"]), ("fp8", ["torch"])],
)
def test_engines_get_the_few_bits_that_they_take(quantization: Any, engines: list[str]) -> None:
    options = BuildOptions(engines=ENGINES, quantization=quantization)
    assert [engine for engine in ENGINES if options.quantization_of(engine)] == engines
    assert not any(BuildOptions(engines=ENGINES).quantization_of(engine) for engine in ENGINES)


def test_a_tokenizer_must_know_every_token_of_the_prompt() -> None:
    tokens = {
        "<|begin_of_style|>",
        "<|end_of_style|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|begin_of_speech|>",
        *PROMPT.speaker_tokens,
    }
    check_tokens(tokens)
    for token in tokens:
        with pytest.raises(ConfigError, match="the tokenizer lacks"):
            check_tokens(tokens - {token})


def test_the_prompt_is_the_one_the_model_was_trained_with() -> None:
    text = PROMPT.template.format(system=PROMPT.system, text="<speaker1>Hi.")
    assert text == (
        "<|begin_of_style|>You are a speech synthesizer that generates natural, realistic, and "
        "human-like conversational audio from dialogue text.<|end_of_style|>\n"
        "<|begin_of_text|><speaker1>Hi.<|end_of_text|>\n<|begin_of_speech|>"
    )
