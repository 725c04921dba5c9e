# SPDX-License-Identifier: Apache-2.0
"""Lines of a JSONL file of training data: what was said, and where the recordings are.

| keys | meaning |
|---|---|
| `file_path`, `full_transcript` | one recording and all that is said in it |
| `reference_audio`, `reference_text`, `audio`, `text` | a reference, then the speech itself |

Where a path ends in `.npy`, it names codes [K, T] instead of audio.
Source: OpenMOSS/MOSS-TTSD v0.7, `finetune/data_preprocess.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.finetune.errors import DataError

_REFERENCE_KEYS = ("reference_audio", "reference_text", "audio", "text")
_PLAIN_KEYS = ("file_path", "full_transcript")


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One line.

    Attributes:
        text: all that is said, with speaker tags.
        audio_paths: recordings whose codes follow each other.
    """

    text: str
    audio_paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is left out.

    Attributes:
        line: 1-based.
        reason: what is wrong with it.
    """

    line: int
    reason: str


def read_item(line: str, base_dir: Path) -> TrainingItem:
    """Read one line.

    Args:
        line: a JSON object.
        base_dir: what relative paths are relative to.

    Raises:
        DataError: no JSON object, or neither set of keys is whole.
    """
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"a {type(value).__name__}; allowed: an object")
    if all(key in value for key in _REFERENCE_KEYS):
        text = _text(value, "reference_text") + _text(value, "text")
        names = [_text(value, "reference_audio"), _text(value, "audio")]
    elif all(key in value for key in _PLAIN_KEYS):
        text, names = _text(value, "full_transcript"), [_text(value, "file_path")]
    else:
        raise DataError(
            f"the keys {sorted(value)}; allowed: {', '.join(_PLAIN_KEYS)}, or "
            f"{', '.join(_REFERENCE_KEYS)}"
        )
    return TrainingItem(text, tuple(base_dir / name for name in names))


def _text(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value[key], str) or not value[key]:
        raise DataError(f"{key} is {value[key]!r}; allowed: a text")
    return str(value[key])
