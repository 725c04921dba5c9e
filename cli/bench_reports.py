# SPDX-License-Identifier: Apache-2.0
"""The verbs of `duologue bench` that measure nothing themselves: report, compare, all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.bench_curves import bench
from duologue.cli.bench_options import MarkdownOption, PlotsOption
from duologue.cli.bench_view import Outputs, publish
from duologue.cli.errors import FAILED, reports_errors
from duologue.cli.options import BundleOption

__all__ = ["bench"]

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results, as JSON.")]


@bench.command()
@reports_errors
def report(
    ctx: typer.Context,
    files: FilesArgument,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Make tables and plots of results again."""
    Outputs(None, md, plots).check()
    from duologue.benchmarks.reports.document import read_document

    publish([(path.stem, read_document(path)) for path in files], md, plots)


@bench.command()
@reports_errors
def compare(
    ctx: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="A", help="The older result, as JSON.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The newer result of that kind.")],
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Change that is none, as a share.")
    ] = 0.1,
) -> None:
    """Compare two results; the exit status is 1 when something became worse or is missing."""
    Outputs(None, None, None).check()
    from duologue.benchmarks.reports.compare import compare as compare_documents
    from duologue.benchmarks.reports.document import read_document
    from duologue.benchmarks.reports.tables import changes_to_markdown

    changes = compare_documents(read_document(before), read_document(after), tolerance)
    typer.echo(changes_to_markdown(changes))
    if any(change.is_regression for change in changes):
        raise typer.Exit(FAILED)


@bench.command("all")
@reports_errors
def run_all(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Made if need be.")],
    bundle: BundleOption = "default",
    quick: Annotated[
        bool, typer.Option("--quick", help="Only show that everything runs; figures mean little.")
    ] = False,
) -> None:
    """The standard set of measurements, one process each, with tables and plots."""
    Outputs(None, None, out).check()
    from duologue.benchmarks.publication import FULL, QUICK
    from duologue.benchmarks.reports.document import read_document

    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, arguments in (QUICK if quick else FULL).commands(bundle).items():
        path = out / f"{name}.json"
        typer.echo(f"{name}: duologue bench {' '.join(arguments)}", err=True)
        command = [sys.executable, "-m", "duologue.cli", "bench", *arguments, "--json", str(path)]
        status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        if status != 0:
            typer.echo(f"{name} ended with status {status}; the others were not run", err=True)
            raise typer.Exit(status)
        paths.append(path)
    publish([(path.stem, read_document(path)) for path in paths], out / "README.md", out)
