# SPDX-License-Identifier: Apache-2.0
"""The program `duologue`: one verb per file."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.background import status, stop
from duologue.cli.batch import batch
from duologue.cli.bench_reports import bench
from duologue.cli.build import build
from duologue.cli.config import config
from duologue.cli.doctor import doctor
from duologue.cli.doors import Doors
from duologue.cli.keys import keys
from duologue.cli.say import say
from duologue.cli.serve import serve
from duologue.cli.train import train
from duologue.cli.voices import voices

app = typer.Typer(
    help="Two people talk: streaming dialogue speech from a script.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("duologue"))
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="DUOLOGUE_DEBUG", help="Show tracebacks of errors."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Two people talk: streaming dialogue speech from a script."""
    # A caller that has opened doors of its own (a test) hands them in as the context's object.
    ctx.obj = ctx.obj or Doors()


app.command()(say)
app.command()(serve)
app.command()(status)
app.command()(stop)
app.command()(build)
app.command()(batch)
app.command()(doctor)
app.add_typer(bench, name="bench")
app.add_typer(train, name="train")
app.add_typer(config, name="config")
app.add_typer(keys, name="keys")
app.add_typer(voices, name="voices")
