# SPDX-License-Identifier: Apache-2.0
"""The verbs of `duologue bench` that draw curves: context and growth."""

from __future__ import annotations

import typer

from duologue.cli.bench import bench, describe, make_outputs
from duologue.cli.bench_options import (
    AtBatchOption,
    AtContextOption,
    BatchOption,
    ContextOption,
    HopsOption,
    JsonFileOption,
    LeftsOption,
    MarkdownOption,
    MaxFramesOption,
    MaxMinutesOption,
    OneEngineOption,
    OneThreadsOption,
    PlotsOption,
    RightsOption,
    SeedOption,
    StepsOption,
    WorkloadsOption,
    split_names,
    split_numbers,
)
from duologue.cli.bench_view import finish, progress, require
from duologue.cli.errors import reports_errors
from duologue.cli.options import BundleOption, EngineChoice, EngineOption

__all__ = ["bench"]


@bench.command()
@reports_errors
def context(
    ctx: typer.Context,
    hops: HopsOption = "4,10,25",
    lefts: LeftsOption = "0,2,5,10,20,50,100",
    rights: RightsOption = "0,1,2,4,8",
    max_frames: MaxFramesOption = 250,
    workloads: WorkloadsOption = "en_30s,en_60s",
    seed: SeedOption = 1,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """How far streamed decoding is from decoding the whole, against the windows' context."""
    outputs = make_outputs(json, md, plots)
    from contextlib import closing

    from duologue.benchmarks.stream.context import ContextPlan, measure_contexts, speak_codes
    from duologue.benchmarks.workload import load_workload
    from duologue.runtime.codec.registry import load_codec
    from duologue.runtime.config import Bundle

    plan = ContextPlan(
        workloads=tuple(load_workload(name) for name in split_names(workloads)),
        hops=split_numbers(hops, int),
        lefts=split_numbers(lefts, int),
        rights=split_numbers(rights, int),
        max_frames=max_frames,
        seed=seed,
    )
    directory = ctx.obj.resolve_bundle(bundle)
    facts = describe(directory)
    clips = speak_codes(directory, engine.value, plan)
    with closing(load_codec(Bundle.load(directory), directory)) as codec, progress() as begin:
        windows = measure_contexts(codec, clips, plan.windows, begin("windows", len(plan.windows)))
    finish(ctx, "context", windows, facts, outputs)


@bench.command()
@reports_errors
def growth(
    ctx: typer.Context,
    engine: OneEngineOption = "onnx",
    batch: BatchOption = "1,2,4,8,16,32,64,128,256",
    context: ContextOption = "100,250,500,1000,2000,4000,8000",
    at_context: AtContextOption = 1000,
    at_batch: AtBatchOption = 1,
    threads: OneThreadsOption = None,
    steps: StepsOption = 16,
    max_minutes: MaxMinutesOption = 10.0,
    bundle: BundleOption = "default",
    json: JsonFileOption = None,
    md: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Step time and memory against streams and against context, with the floor beside them."""
    outputs = make_outputs(json, md, plots)
    require(["torch"], "build")
    from duologue.benchmarks.engine.growth import GrowthPlan, run_growth_bench
    from duologue.benchmarks.machine import usable_cores

    plan = GrowthPlan(
        engine,
        split_numbers(batch, int),
        split_numbers(context, int),
        context=at_context,
        batch=at_batch,
        threads=threads or usable_cores(),
        max_minutes=max_minutes,
        steps=steps,
    )
    directory = ctx.obj.resolve_bundle(bundle)
    facts = describe(directory)
    with progress() as begin:
        total = len(plan.batches) + len(plan.contexts)
        points, left_out = run_growth_bench(directory, plan, begin("points", total))
    if left_out:
        typer.echo(f"{left_out} points were left out after {max_minutes:g} minutes", err=True)
    finish(ctx, "growth", points, facts, outputs)
