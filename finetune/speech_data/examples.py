# SPDX-License-Identifier: Apache-2.0
"""`python -m duologue.finetune.speech_data.examples FOLDER ...`: from audio to a dataset.

Encodes the dialogues that `python -m duologue.finetune.speech_data` has made, and lays them
out as examples, in `OUT/train`, `OUT/default` and `OUT/test`, for `duologue train lm`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from random import Random

import torch
from rich.console import Console

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint, write_codec_weights
from duologue.finetune.codec_trainer import CONFIG_FILE, WEIGHTS_FILE
from duologue.finetune.dataset import Example, shard_name, write_description, write_shard
from duologue.finetune.new_model import choose_base
from duologue.finetune.prepare import TextSide, file_encoder
from duologue.finetune.sources import text_side
from duologue.finetune.speech_data.openings import OpeningMaker
from duologue.finetune.speech_data.references import DEFAULT_PAIR, ExampleMaker, number_voices
from duologue.finetune.speech_data.spoken import encode_blocks, read_spoken
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.errors import DuologueError

_EXAMPLES_PER_SHARD = 10_000


def open_trained_codec(directory: Path) -> Codec:
    """The codec that `duologue train codec` has written, before there is a bundle.

    Raises:
        ConfigError: the folder holds no codec.
    """
    checkpoint = load_codec_checkpoint(directory / WEIGHTS_FILE, directory / CONFIG_FILE)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "codec.safetensors"
        write_codec_weights(checkpoint.tensors, weights)
        return TorchCodec(checkpoint.config, weights)


def write_examples(
    data_dirs: Sequence[Path],
    out_dir: Path,
    side: TextSide,
    frames_per_s: float,
    seed: int,
    num_openings: int = 0,
) -> dict[str, int]:
    """Lay out all dialogues that have codes.

    Args:
        data_dirs: folders of dialogues; a voice's references come out of all of them.
        out_dir: gets a dataset `train`; `default`, those of them that the default voices speak;
            and, without parts of dialogues, a dataset `test`.
        side: of the model that is to be trained.
        frames_per_s: of the codes.
        seed: of cuts and references.
        num_openings: beginnings of turns for training, see `openings`; they become a dataset
            `openings`.

    Returns:
        Dataset -> number of examples, `openings` left out.

    Raises:
        DataError: a folder holds no dialogues, or codes cannot be read.
    """
    spoken = {
        split: list(chain.from_iterable(read_spoken(folder, split) for folder in data_dirs))
        for split in ("train", "test")
    }
    # A voice has the same number in all parts.
    numbers = number_voices(chain.from_iterable(spoken.values()))
    by_default = [dialogue for dialogue in spoken["train"] if dialogue.voices == DEFAULT_PAIR]
    counts = {}
    for name, dialogues in ({**spoken, "default": by_default}).items():
        maker = ExampleMaker(dialogues, side, frames_per_s, numbers)
        examples = list(maker.examples(Random(seed), parts=name != "test"))
        if examples:
            _write(out_dir / name, examples, list(numbers))
        counts[name] = len(examples)
    if num_openings:
        openings = OpeningMaker(spoken["train"], side, frames_per_s, numbers)
        begun = list(openings.examples(Random(seed), num_openings))
        _write(out_dir / "openings", begun, list(numbers))
    return counts


def _write(directory: Path, examples: list[Example], voices: list[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(examples), _EXAMPLES_PER_SHARD)
    names = [shard_name(index) for index in range(len(starts))]
    for name, start in zip(names, starts, strict=True):
        write_shard(directory, name, examples[start : start + _EXAMPLES_PER_SHARD])
    write_description(directory, names, {"voices": voices})


def main() -> None:
    """Read the command line, encode what has no codes yet, and write the examples."""
    parser = argparse.ArgumentParser(prog="python -m duologue.finetune.speech_data.examples")
    parser.add_argument("folders", type=Path, nargs="+", help="as finetune.speech_data made them")
    parser.add_argument("--codec", type=Path, required=True, help="as `train codec` wrote it")
    parser.add_argument(
        "--model", type=Path, help="checkpoint that will be trained; default: a new one, OUT/new"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--openings", type=int, default=0, metavar="N",
        help="beginnings of turns behind references, in OUT/openings",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    try:
        codec = open_trained_codec(args.codec)
        for folder in args.folders:
            with console.status(str(folder)) as status:
                encode_blocks(
                    folder,
                    file_encoder(codec),
                    on_progress=lambda done, of: status.update(f"{done} of {of} blocks encoded"),
                )
        rate = codec.config.frame_rate_hz
        args.out.mkdir(parents=True, exist_ok=True)
        shape = None if args.model else "small"
        side = text_side(choose_base(args.model, shape, args.out, args.seed), "none")
        counts = write_examples(args.folders, args.out, side, rate, args.seed, args.openings)
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error
    console.print(f"wrote {counts['train']} and {counts['test']} examples to {args.out}")


if __name__ == "__main__":
    main()
