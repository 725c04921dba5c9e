# SPDX-License-Identifier: Apache-2.0
"""What is done, line by line on disk, so that a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from duologue.runtime.batch.options import BatchOptions, ItemResult
from duologue.runtime.config import Bundle


class Journal:
    """Append-only list of results in the output folder; one file per shard.

    Args:
        options: folder, prefix and shard.
    """

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._dir = options.output_dir
        self._path = self._dir / f".{options.prefix}journal.{options.shard[0]}.jsonl"

    def finished(self) -> dict[int, ItemResult]:
        """Results of earlier runs whose audio is still there, by index; of all shards."""
        found: dict[int, ItemResult] = {}
        for path in sorted(self._dir.glob(f".{self._options.prefix}journal.*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                result = _parse(line)
                if result is None:
                    continue
                if result.file is not None and (self._dir / result.file).is_file():
                    found[result.index] = result
                else:
                    found.pop(result.index, None)
        return found

    def append(self, result: ItemResult) -> None:
        """Note a result; it is on disk when this returns."""
        line = json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n"
        # A run that was killed may have left half a line: it ends here.
        start = "\n" if self._path.exists() and not _ends_with_newline(self._path) else ""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(start + line)
            file.flush()
            os.fsync(file.fileno())


def write_report(
    options: BatchOptions, bundle: Bundle, results: Iterable[ItemResult], elapsed_s: float
) -> Path:
    """Write `results.json`: statistics, each file, the model and the errors.

    Returns:
        Its path.
    """
    ordered = sorted(results, key=lambda result: result.index)
    good = [result for result in ordered if result.is_ok]
    audio_s = sum(result.duration_s for result in good)
    report: dict[str, Any] = {
        "statistics": {
            "total": len(ordered),
            "succeeded": len(good),
            "failed": len(ordered) - len(good),
            "audio_s": round(audio_s, 3),
            "elapsed_s": round(elapsed_s, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
        "files": [dataclasses.asdict(result) for result in good],
        "model": {
            "name": bundle.name,
            "description": bundle.description,
            "channels": bundle.lm.num_channels,
            "sample_rate_hz": bundle.codec.sample_rate_hz,
            "engines": bundle.engines,
            "sampling": [dataclasses.asdict(channel) for channel in bundle.sampling],
            "options": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in dataclasses.asdict(options).items()
            },
        },
        "errors": [
            {"index": result.index, "line": result.line, "error": result.error}
            for result in ordered
            if not result.is_ok
        ],
    }
    path = options.output_dir / options.report_name
    replace_file(path, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _parse(line: str) -> ItemResult | None:
    try:
        return ItemResult(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
