# SPDX-License-Identifier: Apache-2.0
"""`duologue serve`: the Triton server with our models, until it is told to stop."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.doors import Doors, Gateway, Server
from duologue.cli.errors import reports_errors
from duologue.cli.http_door import HttpChoice, read_http_settings
from duologue.cli.options import BundleOption, EngineChoice, EngineOption, JsonOption

if TYPE_CHECKING:
    from duologue.runtime.gateway.settings import Settings

_DEFAULT_METRICS_PORT = 9090

# How often the wait for the server's end is interrupted, so that signals are seen.
WAKE_S = 1.0

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Address of the HTTP door, 127.0.0.1 without it; a public one needs keys. Triton has "
        "no authentication: gRPC always stays on 127.0.0.1.",
    ),
]
GrpcPortOption = Annotated[
    int, typer.Option("--grpc-port", min=0, max=65535, help="gRPC door; 0 picks a free port.")
]
HttpPortOption = Annotated[
    int | None,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        help="HTTP door with OpenAI's speech API, dialogues and a page at /: 9000 without this "
        "option; 0 picks a free port. Needs the extra 'gateway'.",
    ),
]
NoHttpOption = Annotated[bool, typer.Option("--no-http", help="Serve gRPC alone.")]
ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings of the HTTP door as YAML (api, auth, logging, voices); may be repeated, a "
        "later file wins. Environment (DUOLOGUE_API__PORT) and options win over files.",
    ),
]
KeysFileOption = Annotated[
    Path | None,
    typer.Option(
        "--keys-file", metavar="FILE", help="API keys: lines of a name and the key's SHA-256."
    ),
]
PublicOption = Annotated[
    bool,
    typer.Option(
        "--public-without-keys", help="Serve a public address although anybody may speak there."
    ),
]
TritonHttpPortOption = Annotated[
    int | None,
    typer.Option(
        "--triton-http-port",
        min=0,
        max=65535,
        help="Triton's own HTTP door, closed without this option; 0 picks a free port.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Prometheus, 9090 without this option: the HTTP door's numbers and Triton's; "
        "0 picks a free port.",
    ),
]
MaxSlotsOption = Annotated[
    int | None,
    typer.Option(
        "--max-slots", min=1, help="Dialogues at the same time; the bundle's number without it."
    ),
]
LogOption = Annotated[
    Path | None,
    typer.Option(
        "--log", metavar="FILE", help="Keep the server's log here; without it, it is not kept."
    ),
]


@reports_errors
def serve(
    ctx: typer.Context,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    host: HostOption = None,
    grpc_port: GrpcPortOption = 8001,
    http_port: HttpPortOption = None,
    no_http: NoHttpOption = False,
    config: ConfigOption = None,
    keys_file: KeysFileOption = None,
    public_without_keys: PublicOption = False,
    triton_http_port: TritonHttpPortOption = None,
    metrics_port: MetricsPortOption = None,
    max_slots: MaxSlotsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve dialogue speech on this machine until Ctrl-C or SIGTERM."""
    choice = HttpChoice(
        tuple(config or ()), host, http_port, metrics_port, keys_file, public_without_keys
    )
    http = None if no_http else read_http_settings(choice, _warn)
    # With an HTTP door, Triton's own metrics are shown on that door's page.
    triton_metrics_port = _DEFAULT_METRICS_PORT if metrics_port is None else metrics_port
    server = ctx.obj.start_server(
        ctx.obj.resolve_bundle(bundle),
        engine=engine.value,
        max_slots=max_slots,
        grpc_port=grpc_port,
        http_port=triton_http_port,
        metrics_port=triton_metrics_port if http is None else 0,
        log_path=log,
    )
    try:
        _run(ctx.obj, server, http, log, as_json)
    except KeyboardInterrupt:
        _warn("stopped")


def _run(
    doors: Doors,
    server: contextlib.AbstractContextManager[Server],
    http: Settings | None,
    log: Path | None,
    as_json: bool,
) -> None:
    with (
        _terminate_as_interrupt(),
        server as running,
        _gateway(doors, http, running) as gateway,
    ):
        facts = _facts(running, gateway)
        typer.echo(json.dumps({"ready": True, **facts}) if as_json else _lines(facts))
        _wait(running, gateway, log)


def _gateway(
    doors: Doors, http: Settings | None, running: Server
) -> contextlib.AbstractContextManager[Gateway | None]:
    if http is None:
        return contextlib.nullcontext()
    return doors.start_gateway(http, running)


def _wait(server: Server, gateway: Gateway | None, log: Path | None) -> None:
    """Wait for an end that nobody has asked for."""
    from duologue.runtime.errors import EngineError

    while True:
        status = server.wait(WAKE_S)
        if status is not None:
            where = "--log FILE keeps its log" if log is None else f"its log is {log}"
            raise EngineError(f"the Triton server ended by itself with status {status}; {where}")
        if gateway is not None and not gateway.is_running:
            raise EngineError("the HTTP door ended by itself; its log says why")


def _facts(server: Server, gateway: Gateway | None) -> dict[str, Any]:
    own_metrics = server.metrics_url if gateway is None else gateway.metrics_url
    return {
        **server.describe(),
        "grpc_url": server.grpc_url,
        "http_url": None if gateway is None else gateway.url,
        "triton_http_url": server.http_url,
        "metrics_url": own_metrics,
    }


def _lines(facts: dict[str, Any]) -> str:
    kv_mib = facts["kv_bytes"] / 2**20
    doors = (
        ("HTTP", facts["http_url"]),
        ("gRPC", facts["grpc_url"]),
        ("metrics", facts["metrics_url"]),
        ("Triton's HTTP", facts["triton_http_url"]),
    )
    return "\n".join(
        [
            f"ready: {facts['engine']} engine, {facts['precision']}, {facts['slots']} slots, "
            f"{kv_mib:.1f} MiB of KV cache",
            *(f"  {name:<8} {url}" for name, url in doors if url is not None),
            "Ctrl-C stops it.",
        ]
    )


def _warn(line: str) -> None:
    typer.echo(line, err=True)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the program in the way that Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
