# SPDX-License-Identifier: Apache-2.0
"""Turn a bundle back into checkpoints, so that it can be trained on.

    python -m duologue.build_engines.bundle_checkpoint BUNDLE OUT

OUT/lm is what `duologue train lm --model` begins with, OUT/codec what `--codec` takes; both can be
built again. Weights have the precision that the bundle keeps, widened to float32.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from duologue.build_engines.checkpoint import part_shapes, source_names
from duologue.build_engines.checkpoint_config import config_json
from duologue.build_engines.codec_checkpoint import CODEC_FILE, write_torch_checkpoint
from duologue.build_engines.random_checkpoint_codec import CONFIG_FILE, WEIGHTS_FILE
from duologue.build_engines.safetensors_writer import write_arrays
from duologue.models import resolve_bundle
from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.core import ChannelSampling, FloatArray
from duologue.runtime.errors import ConfigError, DuologueError

LM_DIR, CODEC_DIR = "lm", "codec"
"""Folders of the two checkpoints."""


def write_checkpoints(bundle_dir: Path, out_dir: Path) -> None:
    """Write the language model and the codec of a bundle in the reference's formats.

    Args:
        bundle_dir: of the bundle; its engine torch or onnx must have plain weights.
        out_dir: gets `lm` and `codec`.

    Raises:
        ConfigError: no such bundle, files that do not hold to their hashes, or weights that are
            quantised only.
    """
    bundle = verify_bundle(bundle_dir)
    _write_lm(bundle, bundle_dir, out_dir / LM_DIR)
    _write_codec(bundle, bundle_dir, out_dir / CODEC_DIR)


def _write_lm(bundle: Bundle, bundle_dir: Path, out_dir: Path) -> None:
    weights = bundle_dir / "lm.safetensors"
    if not weights.is_file():
        raise ConfigError(f"{bundle_dir} has no lm.safetensors; allowed: weights as trained")
    out_dir.mkdir(parents=True, exist_ok=True)
    stored, lm = TensorFile(weights), bundle.lm
    wanted = part_shapes(lm)
    arrays: dict[str, FloatArray] = {}
    for name, shape in lm_shapes(lm).items():
        parts = source_names(lm, name)
        borders = np.cumsum([wanted[part][0] for part in parts])[:-1]
        joined = stored.require(name, shape).float32()
        arrays |= dict(zip(parts, np.split(joined, borders), strict=True))
    write_arrays(out_dir / "model.safetensors", arrays)
    for name, content in (
        ("config.json", _config(bundle)),
        ("generation_config.json", _generation(bundle)),
    ):
        (out_dir / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(bundle_dir / "tokenizer.json", out_dir / "tokenizer.json")


def _write_codec(bundle: Bundle, bundle_dir: Path, out_dir: Path) -> None:
    import safetensors.torch

    out_dir.mkdir(parents=True, exist_ok=True)
    tensors = safetensors.torch.load_file(str(bundle_dir / CODEC_FILE))
    widened = {name: tensor.float() for name, tensor in tensors.items()}
    write_torch_checkpoint(widened, out_dir / WEIGHTS_FILE)
    params = yaml.safe_dump({"generator_params": dict(bundle.codec.model)}, sort_keys=False)
    (out_dir / CONFIG_FILE).write_text(params, encoding="utf-8")


def _config(bundle: Bundle) -> dict[str, Any]:
    tokens = bundle.tokens
    speech = range(tokens.speech_start, tokens.speech_stop)
    shape = config_json(bundle.lm, speech, tokens.speech_pad, tokens.pad, "float32")
    return {**shape, "text_reading": bundle.prompt.reading}


def _generation(bundle: Bundle) -> dict[str, Any]:
    return {
        "do_samples": [channel.do_sample for channel in bundle.sampling],
        "layers": [_layer(channel) for channel in bundle.sampling],
        "eos_token_id": list(bundle.tokens.eos),
        "max_length": bundle.limits.max_length,
    }


def _layer(channel: ChannelSampling) -> dict[str, float]:
    values = {
        "temperature": channel.temperature,
        "top_k": channel.top_k,
        "top_p": channel.top_p,
        "repetition_penalty": channel.repetition_penalty,
    }
    return {name: value for name, value in values.items() if value is not None}


def main(
    bundle: Annotated[str, typer.Argument(help="name or directory of a bundle")],
    out: Annotated[Path, typer.Argument(help="gets the folders lm and codec")],
) -> None:
    """Write the checkpoints of a bundle."""
    try:
        write_checkpoints(resolve_bundle(bundle), out)
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error
    typer.echo(f"wrote {out / LM_DIR} and {out / CODEC_DIR}")


if __name__ == "__main__":
    typer.run(main)
