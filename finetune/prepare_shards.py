# SPDX-License-Identifier: Apache-2.0
"""One shard of `prepare`: made, taken as it is, or made whole.

    data/shard-00000.skipped.json    the lines that were left out: [number, reason]

Whatever kept a line out may have been mended since: a later call tries those lines again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.data_files import read_json, write_json
from duologue.finetune.dataset import (
    Example,
    count_examples,
    has_shard,
    read_shard,
    write_shard,
)
from duologue.finetune.errors import DataError
from duologue.finetune.items import Skipped
from duologue.finetune.prepare_plan import NumberedLine

_SKIPPED_SUFFIX = ".skipped.json"

Result = Example | Skipped
MakeAll = Callable[[Sequence[NumberedLine]], list[Result]]


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        num_examples: in it now.
        num_new: of these, made by this call.
        is_resumed: an earlier call had written the shard.
        skipped: lines that are left out.
    """

    num_examples: int
    num_new: int
    is_resumed: bool
    skipped: tuple[Skipped, ...]


def finish_shard(
    directory: Path, name: str, lines: Sequence[NumberedLine], make_all: MakeAll
) -> ShardReport:
    """See to it that a shard holds all of its lines that are fit.

    Args:
        directory: of the dataset.
        name: of the shard.
        lines: of the shard.
        make_all: lines -> for each an example, or why there is none.

    Raises:
        DataError: the shard is damaged, or a line that an older version has put into it can be
            read no more.
    """
    is_resumed = has_shard(directory, name)
    num_held = count_examples(directory, name) if is_resumed else 0
    if num_held == 0:
        return _write(directory, name, make_all(lines), num_held, is_resumed)
    skipped = _read_skipped(directory, name)
    if num_held + len(skipped) != len(lines):
        return _make_again(directory, name, make_all(lines), num_held)
    unfit = {line.line for line in skipped}
    tried = make_all([line for line in lines if line[0] in unfit])
    if not any(isinstance(result, Example) for result in tried):
        return ShardReport(num_held, 0, True, _write_skipped(directory, name, tried))
    made, held = iter(tried), iter(read_shard(directory, name))
    merged = [next(made if number in unfit else held) for number, _ in lines]
    return _write(directory, name, merged, num_held, is_resumed)


def _make_again(
    directory: Path, name: str, results: Sequence[Result], num_held: int
) -> ShardReport:
    """Replace a shard of an older version, which did not write down what it left out."""
    unfit = [result for result in results if isinstance(result, Skipped)]
    num_made = len(results) - len(unfit)
    if num_made < num_held:
        raise DataError(
            f"{name} holds {num_held} examples, and now {num_made} can be made: line "
            f"{unfit[0].line}: {unfit[0].reason}; allowed: all recordings that it was made of, "
            "or a new folder"
        )
    return _write(directory, name, results, num_held, is_resumed=True)


def _write(
    directory: Path, name: str, results: Sequence[Result], num_held: int, is_resumed: bool
) -> ShardReport:
    """Write a shard and what it lacks.

    What it lacks is written first: a call that ends between the two leaves numbers that do not
    add up, and the shard is made again.
    """
    examples = [result for result in results if isinstance(result, Example)]
    skipped = _write_skipped(directory, name, results)
    write_shard(directory, name, examples)
    return ShardReport(len(examples), len(examples) - num_held, is_resumed, skipped)


def _write_skipped(directory: Path, name: str, results: Sequence[Result]) -> tuple[Skipped, ...]:
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    path = directory / f"{name}{_SKIPPED_SUFFIX}"
    if skipped:
        write_json(path, [[line.line, line.reason] for line in skipped])
    else:
        path.unlink(missing_ok=True)
    return skipped


def _read_skipped(directory: Path, name: str) -> list[Skipped]:
    path = directory / f"{name}{_SKIPPED_SUFFIX}"
    if not path.is_file():
        return []
    return [Skipped(int(number), str(reason)) for number, reason in read_json(path)]
