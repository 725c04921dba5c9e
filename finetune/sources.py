# SPDX-License-Identifier: Apache-2.0
"""What `prepare` is made of, opened from folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from duologue.build_engines.checkpoint import read_checkpoint
from duologue.build_engines.moss_ttsd import PROMPT
from duologue.finetune.prepare import TextSide
from duologue.runtime.bundle_files import describe_file
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import ONNX_KEY, TORCH_KEY, choose_place, load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import Normalization
from duologue.runtime.errors import ConfigError
from duologue.runtime.text.tokenizer import TextTokenizer


def text_side(model_dir: Path, rules: Normalization) -> TextSide:
    """The text side of a checkpoint.

    Raises:
        ConfigError: the folder is no checkpoint.
    """
    checkpoint = read_checkpoint(model_dir)
    tokenizer_path = model_dir / "tokenizer.json"
    tokenizer = TextTokenizer.from_file(tokenizer_path)
    prompt = replace(PROMPT, reading=checkpoint.reading)
    return TextSide(
        checkpoint.tokens,
        prompt,
        tokenizer,
        checkpoint.lm.num_channels,
        rules,
        str(describe_file(tokenizer_path)["sha256"]),
    )


def open_codec(bundle_dir: Path, num_threads: int, device: str = "cpu") -> Codec:
    """The codec of a bundle.

    Args:
        bundle_dir: of the bundle.
        num_threads: recordings that it encodes at the same time on a CPU.
        device: "cpu", "cuda", "cuda:N", or "auto": a GPU where the codec can use one.

    Raises:
        ConfigError: the folder is no bundle, or the device is unknown.
        EngineUnavailableError: its engine is not installed, or does not run on the device.
    """
    bundle = Bundle.load(bundle_dir)
    place = choose_place(bundle, device=device)
    return load_codec(
        bundle, bundle_dir, place.engine, device=place.device, num_threads=num_threads
    )


def codec_sha256(bundle_dir: Path) -> str:
    """What tells the codec of a bundle from another one, whichever engine runs it.

    Raises:
        ConfigError: the folder is no bundle, or its codec is missing.
    """
    bundle = Bundle.load(bundle_dir)
    # A graph may keep its weights elsewhere, so it speaks only where there is nothing else.
    for key, part in ((TORCH_KEY, "weights"), (ONNX_KEY, "encoder")):
        name = str(bundle.engines.get(key, {}).get(part))
        if name in bundle.files:
            return str(bundle.files[name]["sha256"])
        if (bundle_dir / name).is_file():
            return str(describe_file(bundle_dir / name)["sha256"])
    raise ConfigError(f"{bundle_dir} holds no codec; build it again")
