# SPDX-License-Identifier: Apache-2.0
"""`bench stream`: every level of a plan against one speaker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from duologue.benchmarks.stream.levels import mean_in_flight, stream_figures, throughput
from duologue.benchmarks.stream.listen import Listener, Speaker
from duologue.benchmarks.stream.loops import Load, closed_loop, open_loop
from duologue.benchmarks.stream.plan import StreamPlan
from duologue.benchmarks.stream.resources import ResourceSampler
from duologue.benchmarks.workload import CodeShape
from duologue.client.errors import DuologueError

# Label of the level, requests of it, and a call per ended request.
Progress = Callable[[str, int], Callable[[], None]]


def run_stream_bench(
    speaker: Speaker,
    shape: CodeShape,
    plan: StreamPlan,
    progress: Progress,
    server_pid: int | None = None,
) -> list[dict[str, Any]]:
    """Run all levels, closed loops first.

    Args:
        speaker: a client of the server that is measured.
        shape: of the model's codes, for voices and caps.
        plan: the levels.
        progress: told of each level.
        server_pid: see `ResourceSampler`.

    Returns:
        One entry per level, as the schema of `bench stream` describes it.
    """
    listener = Listener(speaker, (DuologueError,), plan.buffer_s)

    def ask(index: int) -> Any:
        return plan.ask(index, shape)

    levels = []
    for concurrency in plan.concurrencies:
        total = plan.requests + plan.warmup * concurrency
        with ResourceSampler(server_pid) as resources:
            load = closed_loop(
                listener,
                ask,
                concurrency=concurrency,
                requests=plan.requests,
                warmup=plan.warmup,
                progress=progress(f"{concurrency} at a time", total),
            )
        head = {"loop": "closed", "concurrency": concurrency, "rate_per_s": None}
        levels.append(_level(head, load, plan, resources))
    for rate_per_s in plan.rates_per_s:
        with ResourceSampler(server_pid) as resources:
            load = open_loop(
                listener,
                ask,
                rate_per_s=rate_per_s,
                requests=plan.requests,
                warmup=plan.warmup,
                seed=plan.seed,
                progress=progress(f"{rate_per_s:g} per second", plan.requests + plan.warmup),
            )
        head = {"loop": "open", "concurrency": mean_in_flight(load), "rate_per_s": rate_per_s}
        levels.append(_level(head, load, plan, resources))
    return levels


def _level(
    head: dict[str, Any], load: Load, plan: StreamPlan, resources: ResourceSampler
) -> dict[str, Any]:
    return {
        **head,
        "workloads": [workload.name for workload in plan.workloads],
        "max_seconds": plan.max_seconds,
        "real_time": plan.buffer_s is not None,
        "warmup": len(load.records) - len(load.measured),
        **stream_figures(load.measured),
        **throughput(load),
        "resources": resources.figures(),
    }
