# SPDX-License-Identifier: Apache-2.0
"""The command line of the reference's own script, for those who know it.

`python -m duologue.finetune.finetune --model_path DIR --data_dir DIR --output_dir DIR
--training_config YAML [--lora --lora_config YAML]`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from duologue.finetune.lm_trainer import LmRun, train_lm
from duologue.finetune.settings import lm_settings, lora_settings, read_yaml
from duologue.runtime.errors import DuologueError


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train.

    Args:
        arguments: None takes those of the process.

    Raises:
        SystemExit: with one line of text when the run cannot start or go on.
    """
    parser = argparse.ArgumentParser(description="Fine-tune a dialogue speech model.")
    parser.add_argument("--model_path", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--data_dir", type=Path, required=True, help="prepared data")
    parser.add_argument("--output_dir", type=Path, required=True, help="checkpoints go here")
    parser.add_argument("--training_config", type=Path, help="YAML with training settings")
    parser.add_argument("--lora", action="store_true", help="train adapters, then merge them")
    parser.add_argument("--lora_config", type=Path, help="YAML with adapter settings")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args(arguments)
    try:
        run = LmRun(
            model_dir=args.model_path,
            data_dirs=[args.data_dir],
            out_dir=args.output_dir,
            settings=lm_settings(read_yaml(args.training_config)),
            lora=lora_settings(read_yaml(args.lora_config)) if args.lora else None,
            resume=args.resume,
        )
        train_lm(run)
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
