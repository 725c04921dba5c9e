# SPDX-License-Identifier: Apache-2.0
"""Folders of dialogues: a reference's, as `speech_data` makes them, and the model's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duologue.finetune.errors import DataError
from duologue.finetune.evaluate.measures import Generated, Rendering
from duologue.runtime.audio import to_int16
from duologue.runtime.core import FloatArray, TurnTime

INDEX_FILE = "dialogues.jsonl"
_DETAILS_FILE = "{}.json"


def read_renderings(
    folder: Path,
    prefix: str = "",
    limit: int | None = None,
    voices: Sequence[str] | None = None,
) -> list[Rendering]:
    """Read the dialogues of a reference.

    Args:
        folder: `dialogues.jsonl` and the WAV files that it names.
        prefix: only dialogues whose id begins with it.
        limit: at most so many.
        voices: only dialogues in which these voices speak for speaker 1, 2, ...; None: all.

    Raises:
        DataError: the index is missing or damaged, names no such dialogue, or an audio file
            cannot be read.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise DataError(f"{folder} has no {INDEX_FILE}")
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        rows = [json.loads(line) for line in lines]
        named = [row for row in rows if str(row["id"]).startswith(prefix)]
        chosen = [row for row in named if voices is None or row["voices"] == list(voices)]
        renderings = [_rendering(folder, row) for row in chosen[:limit]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error!r}") from error
    if not renderings:
        raise DataError(f"{path} has no dialogue whose id begins with {prefix!r} in these voices")
    return renderings


def write_generated(folder: Path, name: str, speech: Generated) -> None:
    """Keep what the model said: a WAV file, and what else is known in a JSON file."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", to_int16(speech.samples), speech.sample_rate_hz)
    details = {"is_runaway": speech.is_runaway, "chunk_starts": list(speech.chunk_starts)}
    text = json.dumps(details) + "\n"
    (folder / _DETAILS_FILE.format(name)).write_text(text, encoding="utf-8")


def has_generated(folder: Path, name: str) -> bool:
    """Whether a dialogue has been generated."""
    return (folder / _DETAILS_FILE.format(name)).is_file()


def read_generated(folder: Path, names: Sequence[str]) -> list[Generated]:
    """Read what the model said.

    Raises:
        DataError: a file is missing or damaged.
    """
    generated = []
    for name in names:
        samples, rate_hz = _read_wav(folder / f"{name}.wav")
        path = folder / _DETAILS_FILE.format(name)
        details = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        starts = tuple(int(start) for start in details.get("chunk_starts", ()))
        generated.append(Generated(samples, rate_hz, bool(details.get("is_runaway")), starts))
    return generated


def _rendering(folder: Path, row: dict[str, Any]) -> Rendering:
    samples, rate_hz = _read_wav(folder / row["file_path"])
    turns = tuple(
        TurnTime(int(t["speaker"]), float(t["start_s"]), float(t["end_s"])) for t in row["turns"]
    )
    voices = tuple(str(voice) for voice in row["voices"])
    return Rendering(row["id"], row["full_transcript"], samples, rate_hz, turns, voices)


def _read_wav(path: Path) -> tuple[FloatArray, int]:
    import soundfile

    try:
        samples, rate_hz = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    return samples, int(rate_hz)
