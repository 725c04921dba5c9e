# SPDX-License-Identifier: Apache-2.0
"""What a call of `prepare` is to do: the lines of a file, in a folder begun for them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duologue.finetune.data_files import read_json, write_json
from duologue.finetune.errors import DataError

PLAN_FILE = "prepare.json"

NumberedLine = tuple[int, str]
"""A line of the file and its number, from 1 on."""


def read_lines(jsonl: Path) -> list[NumberedLine]:
    """Read the lines that are not blank.

    Only a line feed ends a line: JSON allows other separators, such as U+2028, within a text.

    Args:
        jsonl: in UTF-8, with or without a byte order mark.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    if not jsonl.is_file():
        raise DataError(f"there is no file {jsonl}")
    try:
        content = jsonl.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise DataError(
            f"{jsonl}, line {line}, byte {error.start} of the file: {error.reason}; allowed: UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{jsonl} cannot be read: {error}") from error
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{jsonl} is empty")
    return lines


def begin(out_dir: Path, facts: dict[str, Any]) -> None:
    """Write down what a folder is for, or compare with what it was begun for.

    Args:
        out_dir: is there.
        facts: what settles the examples; of `codec`, the name of what encodes, and
            `codec_sha256`, the latter decides where it is known.

    Raises:
        DataError: the folder was begun for something else, or its plan is damaged.
    """
    path = out_dir / PLAN_FILE
    begun = read_json(path) if path.is_file() else {}
    if not isinstance(begun, dict):
        raise DataError(f"{path} holds a {type(begun).__name__}; wanted: an object")
    # What an older version did not write down is taken as it is now, and held to from now on.
    differing = {name for name in facts if begun.get(name, facts[name]) != facts[name]}
    if "codec_sha256" in begun and "codec_sha256" in facts:
        differing.discard("codec")
    if differing:
        raise DataError(
            f"{out_dir} was begun with another {', '.join(sorted(differing))}; allowed: a new "
            f"folder, or the same settings (see {PLAN_FILE} there)"
        )
    if begun != (plan := {**facts, **begun}):
        write_json(path, plan)


def forget(out_dir: Path) -> None:
    """Let a folder without any example be begun anew, say with the codec that was missing."""
    (out_dir / PLAN_FILE).unlink()
