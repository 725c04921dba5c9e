# SPDX-License-Identifier: Apache-2.0
"""`duologue bench`: measurements that can be made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from duologue.cli.bench_options import (
    BatchOption,
    ConcurrencyOption,
    ContextOption,
    EnginesOption,
    JsonFileOption,
    MarkdownOption,
    MaxSecondsOption,
    MaxSlotsOption,
    PlotsOption,
    RateOption,
    RealTimeOption,
    RepeatsOption,
    RequestsOption,
    RoundsOption,
    SeedOption,
    ServerOption,
    ServerPidOption,
    StepsOption,
    ThreadsOption,
    WarmupOption,
    WorkloadsOption,
    split_names,
    split_numbers,
)
from duologue.cli.bench_view import Outputs, finish, progress, require
from duologue.cli.doors import Client, Doors
from duologue.cli.errors import reports_errors
from duologue.cli.options import BundleOption, EngineChoice, EngineOption

if TYPE_CHECKING:
    from duologue.benchmarks.workload import Workload

_WORKLOADS = "en_30s,zh_30s,en_30s_voices,zh_30s_voices"
_BUFFER_S = 0.5

bench = typer.Typer(help="Measure engines, streams and the door.", no_args_is_help=True)


@bench.command()
@reports_errors
def engine(
    ctx: typer.Context,
    engines: EnginesOption = "onnx,torch",
    batch: BatchOption = "1,8",
    context: ContextOption = "100,1000",
    threads: ThreadsOption = "auto",
    steps: StepsOption = 24,
    rounds: RoundsOption = 6,
    bundle: BundleOption = "default",
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Decode steps per engine, against this machine's floor and a plain transformers loop."""
    outputs = make_outputs(json, md, plots)
    require(["torch", "transformers"], "build")
    from duologue.benchmarks.engine.plan import EnginePlan
    from duologue.benchmarks.engine.run import run_engine_bench
    from duologue.benchmarks.machine import usable_cores

    counts = {1, usable_cores()} if threads == "auto" else set(split_numbers(threads, int))
    plan = EnginePlan(
        engines=split_names(engines),
        batches=split_numbers(batch, int),
        contexts=split_numbers(context, int),
        threads=tuple(sorted(counts)),
        steps=steps,
        rounds=rounds,
    )
    directory = ctx.obj.resolve_bundle(bundle)
    facts = describe(directory)
    with progress() as begin:
        rows = run_engine_bench(directory, plan, begin("cells", plan.num_measurements))
    finish(ctx, "engine", rows, facts, outputs)


@bench.command()
@reports_errors
def stream(
    ctx: typer.Context,
    server: ServerOption = None,
    server_pid: ServerPidOption = None,
    concurrency: ConcurrencyOption = "",
    rate: RateOption = "",
    real_time: RealTimeOption = False,
    workloads: WorkloadsOption = _WORKLOADS,
    requests: RequestsOption = 200,
    warmup: WarmupOption = 2,
    max_seconds: MaxSecondsOption = None,
    seed: SeedOption = 1,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    max_slots: MaxSlotsOption = None,
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Concurrent streams on a server, closed loop (--concurrency) and open loop (--rate)."""
    outputs = make_outputs(json, md, plots)
    from duologue.benchmarks.stream.codec_clock import codec_clock
    from duologue.benchmarks.stream.in_process import code_shape
    from duologue.benchmarks.stream.plan import StreamPlan
    from duologue.benchmarks.stream.run import run_stream_bench

    plan = StreamPlan(
        _workloads(workloads),
        split_numbers(concurrency or ("" if rate else "1,4"), int),
        split_numbers(rate, float),
        requests=requests,
        warmup=warmup,
        max_seconds=max_seconds,
        buffer_s=_BUFFER_S if real_time else None,
        seed=seed,
    )
    directory = ctx.obj.resolve_bundle(bundle)
    facts, shape = describe(directory), code_shape(directory)
    with (
        _client(ctx.obj, server, directory, engine, max_slots) as (client, url),
        progress() as begin,
    ):
        clock = codec_clock(url)
        levels = run_stream_bench(
            client, shape, plan, begin, codec_clock=clock, server_pid=server_pid
        )
    finish(ctx, "stream", levels, facts, outputs)


@bench.command()
@reports_errors
def offline(
    ctx: typer.Context,
    workloads: WorkloadsOption = _WORKLOADS,
    repeats: RepeatsOption = 1,
    max_seconds: MaxSecondsOption = None,
    seed: SeedOption = 1,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """All dialogues at once, in this process and without a server."""
    outputs = make_outputs(json, md, plots)
    from duologue.benchmarks.stream.offline import run_offline_bench

    chosen, directory = _workloads(workloads), ctx.obj.resolve_bundle(bundle)
    facts = describe(directory)
    with progress() as begin:
        result = run_offline_bench(
            directory,
            engine.value,
            chosen,
            repeats=repeats,
            max_seconds=max_seconds,
            seed=seed,
            progress=begin("dialogues", repeats * len(chosen)),
        )
    finish(ctx, "offline", result, facts, outputs)


@bench.command()
@reports_errors
def door(
    ctx: typer.Context,
    server: ServerOption = None,
    workloads: WorkloadsOption = _WORKLOADS,
    requests: RequestsOption = 200,
    warmup: WarmupOption = 4,
    max_seconds: MaxSecondsOption = 10.0,
    seed: SeedOption = 1,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """What Triton, BLS and gRPC add to the synthesizer, by the same requests in turns."""
    outputs = make_outputs(json, md, plots)
    from duologue.benchmarks.stream.door import run_door_bench
    from duologue.benchmarks.stream.in_process import code_shape, open_inside
    from duologue.benchmarks.stream.listen import Listener
    from duologue.benchmarks.stream.plan import StreamPlan
    from duologue.client.errors import DuologueError

    plan = StreamPlan(
        _workloads(workloads),
        concurrencies=(1,),
        requests=requests,
        warmup=warmup,
        max_seconds=max_seconds,
        seed=seed,
    )
    directory = ctx.obj.resolve_bundle(bundle)
    facts, shape = describe(directory), code_shape(directory)
    with (
        _client(ctx.obj, server, directory, engine, None) as (client, _),
        open_inside(directory, engine.value) as inside,
        progress() as begin,
    ):
        through = Listener(client, (DuologueError,))
        result = run_door_bench(inside, through, shape, plan, begin("pairs", requests + warmup))
    finish(ctx, "door", result, facts, outputs)


def make_outputs(json: Path | None, md: Path | None, plots: Path | None) -> Outputs:
    """Where a verb's result goes, once `Outputs.check` has found nothing against it."""
    outputs = Outputs(json, md, plots)
    outputs.check()
    return outputs


def describe(directory: Path) -> dict[str, Any]:
    """What the document says of machine and model; the load is that before the measurement."""
    from duologue.benchmarks.machine import describe_machine
    from duologue.benchmarks.reports.bundle_facts import describe_bundle
    from duologue.runtime.config import Bundle

    return {"machine": describe_machine(), "bundle": describe_bundle(Bundle.load(directory))}


def _workloads(names: str) -> tuple[Workload, ...]:
    from duologue.benchmarks.workload import load_workload

    return tuple(load_workload(name) for name in split_names(names))


@contextlib.contextmanager
def _client(
    doors: Doors, server: str | None, bundle_dir: Path, engine: EngineChoice, max_slots: int | None
) -> Iterator[tuple[Client, str]]:
    """A client and the address of the server named, or of one of our own in the meantime."""
    with contextlib.ExitStack() as stack:
        if server is None:
            own = doors.start_server(bundle_dir, engine=engine.value, max_slots=max_slots)
            server = stack.enter_context(own).grpc_url
        yield stack.enter_context(contextlib.closing(doors.connect(server))), server
