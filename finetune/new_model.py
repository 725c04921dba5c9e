# SPDX-License-Identifier: Apache-2.0
"""A small model that has learnt nothing yet, as a checkpoint folder.

Its tokenizer is byte-level, so that the vocabulary is open; letters lose their case, and the
sentence that opens every prompt is one token, because a small model has no use for its 121 bytes.
Chinese characters are read as Pinyin.

`python -m duologue.finetune.new_model DIR --shape small` writes one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from duologue.build_engines.moss_ttsd import PROMPT
from duologue.build_engines.random_checkpoint import RandomLm, write_random_lm
from duologue.build_engines.random_tokenizer import write_byte_tokenizer
from duologue.finetune.errors import TrainingError
from duologue.finetune.model import initialize
from duologue.finetune.model_files import WEIGHTS_FILE, load_base, save_checkpoint
from duologue.runtime.errors import DuologueError

_ORIGIN_FILE = "new_model.json"

SHAPES = {
    "tiny": RandomLm(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=64,
        num_channels=4,
        codebook_size=16,
        max_position_embeddings=2048,
    ),
    "small": RandomLm(
        hidden_size=256,
        num_layers=6,
        num_heads=8,
        num_kv_heads=4,
        head_dim=32,
        intermediate_size=768,
        rope_theta=1e4,
    ),
}
"""Name -> shape of a model that is trained from nothing."""


def write_new_model(directory: Path, shape_name: str, seed: int) -> None:
    """Write a checkpoint folder with fresh weights.

    Args:
        directory: made if it does not exist.
        shape_name: one of `SHAPES`.
        seed: of the weights.

    Raises:
        TrainingError: an unknown shape.
    """
    if shape_name not in SHAPES:
        raise TrainingError(f"the shape is {shape_name!r}; allowed: {', '.join(SHAPES)}")
    shape = SHAPES[shape_name]
    with tempfile.TemporaryDirectory() as folder:
        write_byte_tokenizer(Path(folder), shape.codebook_size)
        tokenizer_json = Path(folder) / "tokenizer.json"
        _simplify(tokenizer_json)
        write_random_lm(directory, seed=seed, tokenizer_json=tokenizer_json, shape=shape)
    _read_pinyin(directory / "config.json")
    base = load_base(directory)
    initialize(base.model, seed)
    save_checkpoint(base.model, directory, directory)
    (directory / _ORIGIN_FILE).write_text(_origin(shape_name, seed), encoding="utf-8")


def _origin(shape_name: str, seed: int) -> str:
    return json.dumps({"shape": shape_name, "seed": seed}) + "\n"


def _simplify(tokenizer_json: Path) -> None:
    """Fold case, and add the sentence of every prompt as one token."""
    tokenizer = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    last = tokenizer["added_tokens"][-1]
    sentence = {**last, "id": last["id"] + 1, "content": PROMPT.system}
    tokenizer["added_tokens"].append(sentence)
    tokenizer["normalizer"] = {"type": "Lowercase"}
    text = json.dumps(tokenizer, indent=1, ensure_ascii=False) + "\n"
    tokenizer_json.write_text(text, encoding="utf-8")


def _read_pinyin(config_json: Path) -> None:
    """Thousands of characters are too many for a small model."""
    config = json.loads(config_json.read_text(encoding="utf-8"))
    text = json.dumps({**config, "text_reading": "pinyin"}, indent=2) + "\n"
    config_json.write_text(text, encoding="utf-8")


def choose_base(model_dir: Path | None, shape_name: str | None, out_dir: Path, seed: int) -> Path:
    """The checkpoint that training begins with: one that is there, or a new one.

    Args:
        model_dir: an existing checkpoint.
        shape_name: shape of a new one, which is written to `out_dir/new` unless it is there.
        out_dir: of the training run.
        seed: of a new one's weights.

    Raises:
        TrainingError: both or neither are given, the shape is unknown, or another new model lies
            there already.
    """
    if (model_dir is None) == (shape_name is None):
        raise TrainingError("give either a model to begin with, or the shape of a new one")
    if model_dir is not None:
        return model_dir
    new_dir = out_dir / "new"
    if not (new_dir / WEIGHTS_FILE).is_file():
        # Several processes may come here at once; all write the same, and one is the first.
        unfinished = out_dir / f"new.{os.getpid()}"
        write_new_model(unfinished, str(shape_name), seed)
        try:
            unfinished.rename(new_dir)
        except OSError:
            shutil.rmtree(unfinished)
    origin, wanted = new_dir / _ORIGIN_FILE, _origin(str(shape_name), seed)
    if origin.is_file() and (found := origin.read_text(encoding="utf-8")) != wanted:
        raise TrainingError(
            f"{new_dir} holds the new model {found.strip()}; asked for: {wanted.strip()}; allowed: "
            "the same, or another folder"
        )
    return new_dir


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and write a new model.

    Args:
        arguments: None takes those of the process.

    Raises:
        SystemExit: with one line of text when it cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m duologue.finetune.new_model")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small")
    parser.add_argument("--seed", type=int, default=42, help="of the weights")
    args = parser.parse_args(arguments)
    if (args.directory / WEIGHTS_FILE).exists():
        raise SystemExit(f"error: {args.directory} holds a model; allowed: another folder")
    try:
        write_new_model(args.directory, args.shape, args.seed)
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
