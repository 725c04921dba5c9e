# SPDX-License-Identifier: Apache-2.0
"""`bench stream`: every level of a plan against one speaker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from duologue.benchmarks.stream.codec_clock import CodecClock
from duologue.benchmarks.stream.levels import mean_in_flight, stream_figures, throughput
from duologue.benchmarks.stream.listen import Listener, Speaker
from duologue.benchmarks.stream.loops import AskFor, Load, closed_loop, open_loop
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
    *,
    codec_clock: CodecClock = lambda: None,
    server_pid: int | None = None,
) -> list[dict[str, Any]]:
    """Run all levels, closed loops first.

    Args:
        speaker: a client of the server that is measured.
        shape: of the model's codes, for voices and caps.
        plan: the levels.
        progress: told of each level.
        codec_clock: the seconds that the server's codec has run so far, or None.
        server_pid: see `ResourceSampler`.

    Returns:
        One entry per level, as the schema of `bench stream` describes it.
    """
    listener = Listener(speaker, (DuologueError,), plan.buffer_s)
    ask = functools.partial(plan.ask, shape=shape)
    loads: list[tuple[dict[str, Any], Callable[[], Load]]] = []
    for callers in plan.concurrencies:
        head = {"loop": "closed", "concurrency": callers, "rate_per_s": None}
        loads.append((head, functools.partial(_closed, listener, ask, plan, callers, progress)))
    for rate_per_s in plan.rates_per_s:
        head = {"loop": "open", "rate_per_s": rate_per_s}
        loads.append((head, functools.partial(_open, listener, ask, plan, rate_per_s, progress)))
    levels = []
    for head, run_load in loads:
        codec_before_s = codec_clock()
        with ResourceSampler(server_pid) as resources:
            load = run_load()
        codec = _codec_share(load, codec_before_s, codec_clock())
        levels.append(_level({**head, **codec}, load, plan, resources))
    return levels


def _closed(
    listener: Listener, ask: AskFor, plan: StreamPlan, callers: int, progress: Progress
) -> Load:
    return closed_loop(
        listener,
        ask,
        concurrency=callers,
        requests=plan.requests,
        warmup=plan.warmup,
        progress=progress(f"{callers} at a time", plan.requests + plan.warmup * callers),
    )


def _open(
    listener: Listener, ask: AskFor, plan: StreamPlan, rate_per_s: float, progress: Progress
) -> Load:
    return open_loop(
        listener,
        ask,
        rate_per_s=rate_per_s,
        requests=plan.requests,
        warmup=plan.warmup,
        seed=plan.seed,
        progress=progress(f"{rate_per_s:g} per second", plan.requests + plan.warmup),
    )


def _codec_share(load: Load, before_s: float | None, after_s: float | None) -> dict[str, Any]:
    """Codec seconds per second of all audio, warm-up and recomputed context included."""
    audio_s = sum(record.audio_s for record in load.records)
    if before_s is None or after_s is None or audio_s == 0:
        return {"codec_s_per_audio_s": None}
    return {"codec_s_per_audio_s": (after_s - before_s) / audio_s}


def _level(
    head: dict[str, Any], load: Load, plan: StreamPlan, resources: ResourceSampler
) -> dict[str, Any]:
    return {
        "concurrency": mean_in_flight(load),
        **head,
        "workloads": [workload.name for workload in plan.workloads],
        "max_seconds": plan.max_seconds,
        "real_time": plan.buffer_s is not None,
        "warmup": len(load.records) - len(load.measured),
        **stream_figures(load.measured),
        **throughput(load),
        "resources": resources.figures(),
    }
