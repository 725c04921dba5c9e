# SPDX-License-Identifier: Apache-2.0
"""The verbs of `duologue bench` that draw curves: context and growth."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.bench import bench, describe, make_outputs
from duologue.cli.bench_options import (
    JsonFileOption,
    MarkdownOption,
    PlotsOption,
    SeedOption,
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
    hops: Annotated[str, typer.Option("--hops", help="Frames, joined by commas.")] = "4,10,25",
    lefts: Annotated[str, typer.Option("--lefts", help="Left context.")] = "0,2,5,10,20,50,100",
    rights: Annotated[str, typer.Option("--rights", help="Right context.")] = "0,1,2,4,8",
    max_frames: Annotated[int, typer.Option("--max-frames", min=2, help="Per dialogue.")] = 250,
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
    engine: Annotated[str, typer.Option("--engine", help="onnx or torch.")] = "onnx",
    batch: Annotated[
        str, typer.Option("--batch", help="Streams, joined by commas.")
    ] = "1,2,4,8,16,32,64,128,256",
    context: Annotated[
        str, typer.Option("--context", help="Rows in the cache of one stream.")
    ] = "100,250,500,1000,2000,4000,8000",
    at_context: Annotated[int, typer.Option("--at-context", min=1, help="Of --batch.")] = 1000,
    at_batch: Annotated[int, typer.Option("--at-batch", min=1, help="Of --context.")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", min=1)] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps per round.")] = 16,
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", min=0.01, help="Begin no further point after that.")
    ] = 10.0,
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
