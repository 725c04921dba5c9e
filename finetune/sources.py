# SPDX-License-Identifier: Apache-2.0
"""What `prepare` is made of, opened from folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from duologue.build_engines.checkpoint import read_checkpoint
from duologue.build_engines.moss_ttsd import PROMPT
from duologue.finetune.prepare import TextSide
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import Normalization
from duologue.runtime.text.tokenizer import TextTokenizer


def text_side(model_dir: Path, rules: Normalization) -> TextSide:
    """The text side of a checkpoint.

    Raises:
        ConfigError: the folder is no checkpoint.
    """
    checkpoint = read_checkpoint(model_dir)
    tokenizer = TextTokenizer.from_file(model_dir / "tokenizer.json")
    prompt = replace(PROMPT, reading=checkpoint.reading)
    return TextSide(checkpoint.tokens, prompt, tokenizer, checkpoint.lm.num_channels, rules)


def open_codec(bundle_dir: Path, num_threads: int) -> Codec:
    """The codec of a bundle.

    Raises:
        ConfigError: the folder is no bundle.
        EngineUnavailableError: its engine is not installed.
    """
    return load_codec(Bundle.load(bundle_dir), bundle_dir, num_threads=num_threads)
