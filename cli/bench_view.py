# SPDX-License-Identifier: Apache-2.0
"""What `duologue bench` shows while it measures, and where its results go."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from duologue.cli.bench_options import command_line

if TYPE_CHECKING:
    from duologue.benchmarks.reports.document import Document


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a result goes; what is None is not written.

    Attributes:
        json: the document.
        md: its table.
        plots: folder of its plots.
    """

    json: Path | None
    md: Path | None
    plots: Path | None

    def check(self) -> None:
        """Find out before any measurement whether the files can lie there.

        Raises:
            BadParameter: a file's folder does not exist.
            EngineUnavailableError: a package is missing.
        """
        for path in (self.json, self.md):
            if path is not None and not path.parent.is_dir():
                raise typer.BadParameter(f"{path} lies in a folder that does not exist")
        wanted = ["jsonschema", "psutil"] + (["matplotlib"] if self.plots else [])
        require(wanted, "bench")

    @property
    def stem(self) -> str:
        """How the plots' names begin."""
        return (self.json or self.md or Path("bench")).stem


def require(packages: list[str], extra: str) -> None:
    """Say which packages are missing before anything is measured.

    Raises:
        EngineUnavailableError: names the extra that has them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        from duologue.client.errors import EngineUnavailableError

        raise EngineUnavailableError(
            f"this benchmark needs {', '.join(missing)}: pip install 'duologue[{extra}]'"
        )


def finish(
    ctx: typer.Context, kind: str, result: Any, facts: dict[str, Any], outputs: Outputs
) -> None:
    """Make the document of a result, write it, and print its table.

    Args:
        ctx: of the verb.
        kind: of the result.
        result: the figures.
        facts: `machine` and `bundle` of the document.
        outputs: where to.
    """
    from duologue.benchmarks.reports.document import make_document, write_document

    document = make_document(kind, result, command=command_line(ctx), **facts)
    if outputs.json is not None:
        write_document(document, outputs.json)
    publish([(outputs.stem, document)], outputs.md, outputs.plots)


def publish(documents: list[tuple[str, Document]], md: Path | None, plots: Path | None) -> None:
    """Print and write the tables, and write the plots, of documents with their names."""
    from duologue.benchmarks.reports.tables import to_markdown

    text = "\n".join(to_markdown(document) for _, document in documents)
    typer.echo(text)
    if md is not None:
        md.write_text(text, encoding="utf-8")
    if plots is not None:
        from duologue.benchmarks.reports.plots import write_plots

        for stem, document in documents:
            write_plots(document, plots, stem)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int | None], Callable[[], None]]]:
    """Bars on a terminal: gives a function from label and total to "one more is done"."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=hidden) as bars:

        def begin(label: str, total: int | None) -> Callable[[], None]:
            task = bars.add_task(label, total=total)
            return lambda: bars.advance(task)

        yield begin
