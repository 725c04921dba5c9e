# SPDX-License-Identifier: Apache-2.0
"""`duologue keys`: API keys of the HTTP door."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.options import JsonOption

keys = typer.Typer(help="Make API keys for the HTTP door.", no_args_is_help=True)

_SCOPES_HELP = "speak, voices (add and remove voices), admin (everything, and metrics)."
_OWNER_ONLY = 0o600


@keys.command("make")
@reports_errors
def make(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, - and _.")],
    path: Annotated[
        Path | None,
        typer.Option(
            "--keys-file", metavar="FILE", help="Append its hash here, for `serve --keys-file`."
        ),
    ] = None,
    scopes: Annotated[str, typer.Option("--scopes", help=_SCOPES_HELP)] = "speak",
    rpm: Annotated[float | None, typer.Option("--rpm", help="Requests per minute.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", help="Requests at once.")] = None,
    streams: Annotated[int | None, typer.Option("--streams", help="Streams at a time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: nobody can find it again from what is kept."""
    from duologue.runtime.errors import ConfigError
    from duologue.runtime.keys import make_key, read_keys

    secret, key = make_key(
        name,
        scopes=frozenset(scopes.split(",")),
        requests_per_minute=rpm,
        burst_size=burst,
        max_streams=streams,
    )
    if path is not None:
        before = read_keys(path) if path.exists() and path.read_text(encoding="utf-8") else ()
        if name in {other.name for other in before}:
            raise ConfigError(f"{path} holds a key {name!r} already; take its line out first")
        _append(path, key.as_line())
    if as_json:
        typer.echo(json.dumps({"name": name, "key": secret, "line": key.as_line()}))
        return
    typer.echo(secret)
    if path is None:
        typer.echo(f"its line for a key file: {key.as_line()}", err=True)
    else:
        typer.echo(f"its hash is in {path}; the key itself is shown this once", err=True)


def _append(path: Path, line: str) -> None:
    """Add a line to a file that only its owner reads."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    begin = "" if not text or text.endswith("\n") else "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _OWNER_ONLY)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(f"{begin}{line}\n")
