# SPDX-License-Identifier: Apache-2.0
"""`duologue serve`: the Triton server with our models, until it is told to stop."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from duologue.cli.doors import Server
from duologue.cli.errors import reports_errors
from duologue.cli.options import BundleOption, EngineChoice, EngineOption, JsonOption

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = (LOOPBACK, "localhost", "::1")

# How often the wait for the server's end is interrupted, so that signals are seen.
WAKE_S = 1.0

HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        help="Address of the HTTP gateway of a later release. Triton has no authentication: "
        "gRPC and metrics always stay on 127.0.0.1.",
    ),
]
GrpcPortOption = Annotated[
    int, typer.Option("--grpc-port", min=0, max=65535, help="gRPC door; 0 picks a free port.")
]
HttpPortOption = Annotated[
    int,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        help="Reserved for the HTTP gateway of a later release: NOT served yet.",
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
    int,
    typer.Option("--metrics-port", min=0, max=65535, help="Prometheus; 0 picks a free port."),
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
    host: HostOption = LOOPBACK,
    grpc_port: GrpcPortOption = 8001,
    http_port: HttpPortOption = 9000,
    triton_http_port: TritonHttpPortOption = None,
    metrics_port: MetricsPortOption = 9090,
    max_slots: MaxSlotsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve dialogue speech on this machine until Ctrl-C or SIGTERM."""
    if host not in LOOPBACK_NAMES:
        typer.echo(
            f"--host {host} is for the HTTP gateway of a later release; Triton has no "
            f"authentication and stays on {LOOPBACK}",
            err=True,
        )
    server = ctx.obj.start_server(
        ctx.obj.resolve_bundle(bundle),
        engine=engine.value,
        max_slots=max_slots,
        grpc_port=grpc_port,
        http_port=triton_http_port,
        metrics_port=metrics_port,
        log_path=log,
    )
    try:
        with _terminate_as_interrupt(), server as running:
            typer.echo(_ready_json(running) if as_json else _ready_lines(running))
            _wait(running, log)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _wait(server: Server, log: Path | None) -> None:
    """Wait for the server's end, which nobody has asked for."""
    from duologue.runtime.errors import EngineError

    while True:
        status = server.wait(WAKE_S)
        if status is not None:
            where = "--log FILE keeps its log" if log is None else f"its log is {log}"
            raise EngineError(f"the Triton server ended by itself with status {status}; {where}")


def _facts(server: Server) -> dict[str, Any]:
    return {
        **server.describe(),
        "grpc_url": server.grpc_url,
        "http_url": server.http_url,
        "metrics_url": server.metrics_url,
    }


def _ready_json(server: Server) -> str:
    return json.dumps({"ready": True, **_facts(server)})


def _ready_lines(server: Server) -> str:
    facts = _facts(server)
    kv_mib = facts["kv_bytes"] / 2**20
    lines = [
        f"ready: {facts['engine']} engine, {facts['precision']}, {facts['slots']} slots, "
        f"{kv_mib:.1f} MiB of KV cache",
        f"  gRPC     {facts['grpc_url']}",
        f"  metrics  {facts['metrics_url']}",
    ]
    if facts["http_url"] is not None:
        lines.append(f"  Triton's HTTP  {facts['http_url']}")
    lines.append("Ctrl-C stops it.")
    return "\n".join(lines)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the program in the way that Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
