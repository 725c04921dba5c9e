# SPDX-License-Identifier: Apache-2.0
"""Single files of training data: arrays that are never unpickled, and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from duologue.finetune.errors import DataError

_MAGIC = b"\x93NUMPY"


def read_array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Read a `.npy` file; a pickle or an archive of several arrays is refused.

    Args:
        path: of the file.
        mapped: leave the numbers on the disk.

    Raises:
        DataError: the file is missing, damaged, or holds no array of numbers.
    """
    try:
        with path.open("rb") as file:
            # Only this, for numpy.load opens archives too.
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it is no .npy file")
        mode: Literal["r"] | None = "r" if mapped else None
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except Exception as error:  # damaged files raise almost anything
        raise DataError(f"{path} cannot be read: {error}") from error
    return array


def write_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write a `.npy` file so that it is there whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    unfinished.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def write_json(path: Path, content: object) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(path)
