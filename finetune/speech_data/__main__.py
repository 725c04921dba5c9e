# SPDX-License-Identifier: Apache-2.0
"""`python -m duologue.finetune.speech_data DIRECTORY`: make dialogues to train with."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from duologue.finetune.speech_data.maker import DataPlan, make_data
from duologue.finetune.speech_data.voices import LANGUAGES
from duologue.runtime.errors import DuologueError


def main() -> None:
    """Read the command line and make the data, with a progress bar."""
    parser = argparse.ArgumentParser(prog="python -m duologue.finetune.speech_data")
    parser.add_argument("directory", type=Path, help="where audio and dialogues.jsonl go")
    parser.add_argument("--dialogues", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    parser.add_argument("--default-share", type=float, default=0.6, metavar="SHARE",
                        help="share of dialogues spoken by the two default voices")  # fmt: skip
    parser.add_argument("--further-voices", action="store_true",
                        help="draw the others from some forty more voices, too")  # fmt: skip
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    plan = DataPlan(args.directory, args.dialogues, args.seed, args.split, args.language,
                    args.default_share, args.further_voices)  # fmt: skip
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("dialogues", total=plan.num_dialogues)
        try:
            index = make_data(
                plan,
                num_processes=args.processes,
                on_progress=lambda done: progress.update(task, completed=done),
            )
        except DuologueError as error:
            raise SystemExit(f"error: {error}") from error
    console.print(f"wrote {index}")


if __name__ == "__main__":
    main()
