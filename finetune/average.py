# SPDX-License-Identifier: Apache-2.0
"""`python -m duologue.finetune.average FOLDER ... --out DIR`: one checkpoint between several.

Weights of runs that began with one another lie so close that what lies between them speaks as
well, and errs less where the runs err differently (Wortsman et al. 2022, "Model soups",
arXiv:2203.05482).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from duologue.finetune.errors import TrainingError
from duologue.finetune.model_files import load_base, save_checkpoint
from duologue.runtime.errors import DuologueError


def average_checkpoints(
    directories: Sequence[Path], shares: Sequence[float], out_dir: Path
) -> None:
    """Write the weighted mean of checkpoints.

    Args:
        directories: checkpoint folders of models of one shape; configuration and tokenizer are
            those of the first.
        shares: how much each counts; only their ratios matter.
        out_dir: made if it does not exist.

    Raises:
        ConfigError: a folder is no checkpoint.
        TrainingError: models of several shapes, or shares that are not one positive number each.
    """
    if len(shares) != len(directories) or not all(share > 0 for share in shares):
        raise TrainingError(
            f"the shares are {list(shares)}; allowed: {len(directories)} positive numbers"
        )
    first, *others = (load_base(directory) for directory in directories)
    for other in others:
        if other.checkpoint.lm != first.checkpoint.lm:
            raise TrainingError(
                f"{other.directory} holds a model of another shape than {first.directory}"
            )
    states = [base.model.state_dict() for base in (first, *others)]
    with torch.no_grad():
        for name, value in states[0].items():
            parts = zip(states, shares, strict=True)
            mean = sum(share * state[name].double() for state, share in parts) / sum(shares)
            value.copy_(mean)
    save_checkpoint(first.model, first.directory, out_dir)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and write the mean.

    Args:
        arguments: None takes those of the process.

    Raises:
        SystemExit: with one line of text when it cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m duologue.finetune.average")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", help="of each; default: equal ones")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        shares = args.shares or [1.0] * len(args.checkpoints)
        average_checkpoints(args.checkpoints, shares, args.out)
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
