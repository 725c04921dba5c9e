# SPDX-License-Identifier: Apache-2.0
"""What `duologue build` shows while it works, and at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from duologue.build_engines.build import StageEvent
    from duologue.runtime.config import Bundle

_MARKS = {"running": "", "done": "done", "kept": "kept from before"}


class StageView:
    """One line per stage: spinning while it runs, with its time when it is done.

    Args:
        console: where to draw; without a terminal, a line is printed when a stage ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<24}"),
            TextColumn("{task.fields[mark]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> StageView:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def tell(self, event: StageEvent) -> None:
        """Take note of a stage that begins or ends."""
        mark = _MARKS[event.state]
        if event.state == "running":
            self._tasks[event.name] = self._progress.add_task(event.name, total=1, mark=mark)
            return
        self._progress.update(self._tasks[event.name], completed=1, mark=mark)
        if not self._console.is_terminal:
            self._console.print(f"{event.name}: {mark}", highlight=False)


def engine_table(bundle: Bundle) -> Table:
    """Which engines a bundle has, and in which state."""
    table = Table("engine", "precision", "status", title=bundle.name, title_justify="left")
    for key, entry in bundle.engines.items():
        table.add_row(key, str(entry.get("dtype", "")), str(entry.get("status", "built")))
    return table


def parity_table(parity: dict[str, Any]) -> Table:
    """How far each engine is from the reference."""
    table = Table(
        "engine",
        "stage",
        "largest difference",
        "equal ids",
        title="against torch in float32",
        title_justify="left",
    )
    for engine, stages in parity.items():
        for stage, measured in stages.items():
            has_ids = measured["num_ids"] > 0
            only_ids = has_ids and stage == "codes"
            difference = "" if only_ids else f"{measured['max_abs_diff']:.1e}"
            ids = f"{measured['ids_equal']} of {measured['num_ids']}" if has_ids else ""
            table.add_row(engine, stage, difference, ids)
    return table


def total_bytes(bundle: Bundle) -> int:
    """Size of all files that the engines read."""
    return sum(int(entry["bytes"]) for entry in bundle.files.values())


def summary(bundle: Bundle, out: Path) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "bundle": str(out),
        "name": bundle.name,
        "engines": bundle.engines,
        "parity": bundle.parity,
        "bytes": total_bytes(bundle),
    }
