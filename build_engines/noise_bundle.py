# SPDX-License-Identifier: Apache-2.0
"""Make the noise bundle: `python -m duologue.build_engines.noise_bundle --out models/noise`.

A tiny language model and a tiny codec with random weights from fixed seeds, written in the
reference's own format and built like any other checkpoint. The same versions of the libraries
give the same bytes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from duologue.build_engines.build import build_bundle
from duologue.build_engines.options import BuildOptions
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_checkpoint_codec import write_random_codec
from duologue.runtime.config import Bundle

MAX_BYTES = 4_000_000
"""The noise bundle stays below this size."""

_LM_SEED = 20_250_704
_CODEC_SEED = 16_000
_OPTIONS = BuildOptions(
    engines=("onnx", "torch"),
    dtype="float16",
    codec_dtype="float16",
    name="noise",
    description="A tiny model with random weights: it makes noise, and lets everything run.",
    trained=False,
    max_rows=4096,
    max_slots=32,
)


def build_noise_bundle(out_dir: Path) -> Bundle:
    """Build the noise bundle.

    Args:
        out_dir: its directory.
    """
    with tempfile.TemporaryDirectory() as folder:
        lm_dir, codec_dir = Path(folder) / "lm", Path(folder) / "codec"
        write_random_lm(lm_dir, seed=_LM_SEED, hidden_size=96, intermediate_size=192)
        write_random_codec(codec_dir, seed=_CODEC_SEED)
        return build_bundle(lm_dir, codec_dir, out_dir, _OPTIONS)


def main(
    out: Annotated[Path, typer.Option(help="directory of the bundle")] = Path("models/noise"),
) -> None:
    """Make the noise bundle."""
    bundle = build_noise_bundle(out)
    total = sum(entry["bytes"] for entry in bundle.files.values())
    typer.echo(f"{out}: {len(bundle.files)} files, {total} bytes")


if __name__ == "__main__":
    typer.run(main)
