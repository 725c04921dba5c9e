# SPDX-License-Identifier: Apache-2.0
"""A byte-level tokenizer with the special tokens of MOSS-TTSD, for models without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Qwen's, in its order; the first one pads and ends."""
SPEECH_TOKENS = (
    "<|begin_of_style|>",
    "<|end_of_style|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|begin_of_speech|>",
    "<|end_of_speech|>",
    "<speaker1>",
    "<speaker2>",
)


def byte_alphabet() -> list[str]:
    """The printable characters that stand for bytes in byte-level BPE, in the order of ids.

    Bytes that print well stand for themselves; the others take characters from U+0100 on.
    Source: openai/gpt-2, `encoder.py`.

    >>> byte_alphabet()[:3], len(set(byte_alphabet()))
    (['!', '"', '#'], 256)
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    num_others = 256 - len(plain)
    return [chr(byte) for byte in plain] + [chr(0x100 + place) for place in range(num_others)]


def write_byte_tokenizer(directory: Path, codebook_size: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

    Ids: 256 bytes, the control tokens, `<0>` .. `<codebook_size - 1>`, the speech tokens.

    Args:
        directory: existing folder.
        codebook_size: codes of channel 0.
    """
    vocabulary = {character: place for place, character in enumerate(byte_alphabet())}
    codes = (f"<{code}>" for code in range(codebook_size))
    names = [*CONTROL_TOKENS, *codes, *SPEECH_TOKENS]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": len(vocabulary) + place, "content": name, **flags, "special": True}
        for place, name in enumerate(names)
    ]
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": False},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    named = {"eos_token": CONTROL_TOKENS[0], "pad_token": CONTROL_TOKENS[0]}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    for file_name, content in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("special_tokens_map.json", named),
    ):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (directory / file_name).write_text(text, encoding="utf-8")
