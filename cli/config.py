# SPDX-License-Identifier: Apache-2.0
"""`duologue config`: the settings of the HTTP door as they take effect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.http_door import CodecChoice, HttpChoice, explain_http_settings
from duologue.cli.options import JsonOption
from duologue.cli.serve_options import (
    CodecDeviceOption,
    CodecEngineOption,
    ConfigOption,
    GrpcHostOption,
    HostOption,
    HttpPortOption,
    KeysFileOption,
    MetricsPortOption,
    PublicOption,
)

if TYPE_CHECKING:
    from duologue.runtime.gateway.setting_origins import Explained

config = typer.Typer(help="Look at the settings of the HTTP door.", no_args_is_help=True)


@config.command("show")
@reports_errors
def show(
    ctx: typer.Context,
    files: ConfigOption = None,
    host: HostOption = None,
    http_port: HttpPortOption = None,
    metrics_port: MetricsPortOption = None,
    keys_file: KeysFileOption = None,
    public_without_keys: PublicOption = False,
    grpc_host: GrpcHostOption = None,
    codec_engine: CodecEngineOption = None,
    codec_device: CodecDeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every setting that `serve` would use with these options, and where it came from.

    Keys are not shown.
    """
    choice = HttpChoice(
        tuple(files or ()),
        host,
        http_port,
        metrics_port,
        keys_file,
        public_without_keys,
        grpc_host,
        codec=CodecChoice(codec_engine and codec_engine.value, codec_device),
    )
    settings, notes = explain_http_settings(choice)
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(_as_json(settings, notes) if as_json else _as_table(settings))


def _as_json(settings: list[Explained], notes: tuple[str, ...]) -> str:
    told = {one.name: {"value": one.value, "origin": one.origin} for one in settings}
    return json.dumps({"settings": told, "notes": list(notes)}, ensure_ascii=False)


def _as_table(settings: list[Explained]) -> str:
    rows = [(one.name, _shown(one.value), one.origin) for one in settings]
    widths = [min(40, max(len(row[i]) for row in rows)) for i in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
