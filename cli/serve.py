# SPDX-License-Identifier: Apache-2.0
"""`duologue serve`: the Triton server with our models and the HTTP door, until told to stop."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import typer

from duologue.cli.again import command_again
from duologue.cli.background import DetachOption, start_detached
from duologue.cli.doors import Doors, Gateway, Server
from duologue.cli.errors import reports_errors
from duologue.cli.http_door import CodecChoice, HttpChoice, read_http_settings
from duologue.cli.options import BundleOption, EngineChoice, EngineOption, JsonOption
from duologue.cli.serve_options import (
    CodecDeviceOption,
    CodecEngineOption,
    ConfigOption,
    GraceOption,
    GrpcHostOption,
    GrpcPortOption,
    HostOption,
    HttpPortOption,
    KeysFileOption,
    LogOption,
    MaxRestartsOption,
    MaxSlotsOption,
    MetricsPortOption,
    NoHttpOption,
    PublicOption,
    TritonHttpPortOption,
)
from duologue.cli.serve_ranks import TensorParallelOption, take_rank

if TYPE_CHECKING:
    from duologue.runtime.gateway.settings import Settings

_DEFAULT_METRICS_PORT = 9090


@reports_errors
def serve(
    ctx: typer.Context,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    host: HostOption = None,
    grpc_port: GrpcPortOption = 8001,
    grpc_host: GrpcHostOption = None,
    http_port: HttpPortOption = None,
    no_http: NoHttpOption = False,
    config: ConfigOption = None,
    keys_file: KeysFileOption = None,
    public_without_keys: PublicOption = False,
    triton_http_port: TritonHttpPortOption = None,
    metrics_port: MetricsPortOption = None,
    max_slots: MaxSlotsOption = None,
    codec_engine: CodecEngineOption = None,
    codec_device: CodecDeviceOption = None,
    tensor_parallel: TensorParallelOption = None,
    log: LogOption = None,
    grace: GraceOption = 10.0,
    max_restarts: MaxRestartsOption = 5,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve dialogue speech on this machine until Ctrl-C or SIGTERM.

    What fails meanwhile is started again: Triton, the process of a model, the HTTP door.
    """
    if detach:
        facts = start_detached([*command_again(ctx, ("detach", "as_json")), "--json"])
        typer.echo(json.dumps(facts) if as_json else _background_lines(facts))
        return
    num_ranks = take_rank(tensor_parallel, engine.value)
    if num_ranks == 0:
        return
    choice = HttpChoice(
        tuple(config or ()),
        host,
        http_port,
        metrics_port,
        keys_file,
        public_without_keys,
        grpc_host,
        None if grpc_host is None else grpc_port,
        CodecChoice(codec_engine and codec_engine.value, codec_device),
    )
    http = None if no_http else read_http_settings(choice, _warn)
    # With an HTTP door, Triton's own metrics are shown on that door's page.
    triton_metrics_port = _DEFAULT_METRICS_PORT if metrics_port is None else metrics_port
    server = ctx.obj.start_server(
        ctx.obj.resolve_bundle(bundle),
        engine=engine.value,
        max_slots=max_slots,
        **_codec_options(choice.codec, http),
        # Where gRPC has a door of its own, Triton behind it takes any port.
        grpc_port=grpc_port if http is None or http.grpc.host is None else 0,
        http_port=triton_http_port,
        metrics_port=triton_metrics_port if http is None else 0,
        exit_timeout_s=math.ceil(grace),
        log_path=log,
    )
    # A rank cannot enter MPI a second time: then all of them are started anew, from outside.
    _run(ctx.obj, server, http, grace, max_restarts if num_ranks == 1 else 0, as_json)


def _codec_options(choice: CodecChoice, settings: Settings | None) -> dict[str, str]:
    """Where the codec runs; without an HTTP door there are no settings but the options."""
    said = choice.as_flags() if settings is None else settings.codec.model_dump()
    return {f"codec_{name}": value for name, value in said.items()}


def _run(
    doors: Doors,
    server: Server,
    http: Settings | None,
    grace_s: float,
    max_restarts: int,
    as_json: bool,
) -> None:
    from duologue.runtime.supervisor.detached_log import shorten_own_log
    from duologue.runtime.supervisor.failure import RestartPolicy
    from duologue.runtime.supervisor.service import Service, ServiceRecord
    from duologue.runtime.supervisor.state import state_dir

    gateway = None if http is None else doors.start_gateway(http, server, grace_s)

    def announce() -> dict[str, Any]:
        facts = _facts(server, gateway)
        typer.echo(json.dumps({"ready": True, **facts}) if as_json else _lines(facts))
        return facts

    service = Service(
        server,
        gateway,
        ServiceRecord(state_dir(), _warn),
        grace_s=grace_s,
        policy=RestartPolicy(max_restarts=max_restarts),
        report=_warn,
        tend=lambda: shorten_own_log(state_dir()),
    )
    service.run(announce)
    _warn("stopped")


def _facts(server: Server, gateway: Gateway | None) -> dict[str, Any]:
    own_metrics = server.metrics_url if gateway is None else gateway.metrics_url
    return {
        **server.describe(),
        "grpc_url": (gateway and gateway.grpc_url) or server.grpc_url,
        "http_url": None if gateway is None else gateway.url,
        "triton_http_url": server.http_url,
        "metrics_url": own_metrics,
    }


def _background_lines(facts: dict[str, Any]) -> str:
    end = f"process {facts['pid']}, log {facts['log']}; `duologue stop` ends it."
    return "\n".join([*_ready_lines(facts), end])


def _lines(facts: dict[str, Any]) -> str:
    return "\n".join([*_ready_lines(facts), "Ctrl-C stops it."])


def _ready_lines(facts: dict[str, Any]) -> list[str]:
    kv_mib = facts["kv_bytes"] / 2**20
    doors = (
        ("HTTP", facts["http_url"]),
        ("gRPC", facts["grpc_url"]),
        ("metrics", facts["metrics_url"]),
        ("Triton's HTTP", facts["triton_http_url"]),
    )
    return [
        f"ready: {facts['engine']} engine, {facts['precision']}, {facts['slots']} slots, "
        f"{kv_mib:.1f} MiB of KV cache; codec {facts['codec_engine']} on {facts['codec_device']}",
        *(f"  {name:<8} {url}" for name, url in doors if url is not None),
    ]


def _warn(line: str) -> None:
    typer.echo(line, err=True)
