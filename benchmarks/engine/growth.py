# SPDX-License-Identifier: Apache-2.0
"""`bench growth`: how a step's time and the memory grow with streams and with context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from duologue.benchmarks.engine.floor import measure_floor
from duologue.benchmarks.engine.our_loop import OurLoop
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.benchmarks.statistics import percentile, percentile_interval
from duologue.client.errors import RequestError
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.config import Bundle

_MS = 1e3
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class GrowthPlan:
    """Two lines through the plane of batch and context.

    Attributes:
        engine: whose step is timed.
        batches: sequences per step, each holding `context` rows.
        contexts: rows that each of `batch` sequences holds.
        context: of the line along the batch.
        batch: of the line along the context.
        threads: of a step.
        max_minutes: no further point is begun after so long; what is left out is counted.
        steps, rounds: timed steps of a round, and rounds of a point.
    """

    engine: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    context: int = 1000
    batch: int = 1
    threads: int = 1
    max_minutes: float = 10.0
    steps: int = 16
    rounds: int = 3

    def __post_init__(self) -> None:
        sizes = (*self.batches, *self.contexts, self.context, self.batch, self.threads)
        if not (self.batches or self.contexts) or min(sizes) < 1:
            raise RequestError(f"sizes are {sizes}; allowed: at least one, 1 or more each")
        if self.max_minutes <= 0:
            raise RequestError(f"max_minutes is {self.max_minutes}; allowed: above 0")

    @property
    def lines(self) -> list[tuple[str, list[Cell]]]:
        """Along "batch" and along "context", each with its points, the small ones first."""
        along_batch = [Cell(batch, self.context) for batch in sorted(self.batches)]
        along_context = [Cell(self.batch, context) for context in sorted(self.contexts)]
        return [("batch", along_batch), ("context", along_context)]


def run_growth_bench(
    bundle_dir: Path, plan: GrowthPlan, progress: Callable[[], None] = lambda: None
) -> tuple[list[dict[str, Any]], int]:
    """Time the steps along both lines.

    Args:
        bundle_dir: of the bundle.
        plan: the lines.
        progress: told of each point that was measured.

    Returns:
        The points, as the schema of `bench growth` describes them, and how many were left out.

    Raises:
        ConfigError: the bundle cannot be loaded, or its model has fewer positions.
        EngineUnavailableError: the engine cannot run here.
    """
    bundle = Bundle.load(bundle_dir)
    give_up_at_s = time.monotonic() + 60 * plan.max_minutes
    threads_before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    points: list[dict[str, Any]] = []
    try:
        for axis, cells in plan.lines:
            if cells:
                for point in _measure_line(bundle, bundle_dir, plan, cells, give_up_at_s):
                    points.append({"axis": axis, **point})
                    progress()
    finally:
        torch.set_num_threads(threads_before)
    num_cells = sum(len(cells) for _, cells in plan.lines)
    return points, num_cells - len(points)


def _measure_line(
    bundle: Bundle, bundle_dir: Path, plan: GrowthPlan, cells: list[Cell], give_up_at_s: float
) -> Iterator[dict[str, Any]]:
    sizes = EnginePlan(
        engines=(plan.engine,),
        batches=tuple(cell.batch for cell in cells),
        contexts=tuple(cell.context for cell in cells),
        threads=(plan.threads,),
        steps=plan.steps,
        rounds=plan.rounds,
    )
    before = psutil.Process().memory_info().rss
    backbone = load_backbone(
        bundle,
        bundle_dir,
        engine=plan.engine,
        max_slots=max(sizes.batches),
        max_rows=sizes.rows_needed,
        num_threads=plan.threads,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with closing(backbone):
        for cell in cells:
            if time.monotonic() >= give_up_at_s:
                return
            times = LoopTimes()
            loop = OurLoop(bundle, backbone, replace(sizes, contexts=(cell.context,)))
            for _ in range(plan.rounds):
                loop.run_round(cell, times)
            floor = measure_floor(backbone.spec, cell, device)
            interval = percentile_interval(times.step_s, 0.5)
            bounds = [None if b is None else _MS * b for b in (interval.low, interval.high)]
            yield {
                "engine": backbone.spec.engine,
                "dtype": backbone.spec.dtype,
                "batch": cell.batch,
                "context": cell.context,
                "step_ms": _MS * times.median_step_s,
                "step_ci_ms": bounds,
                "prefill_ms": _MS * percentile(times.prefill_s, 0.5),
                "floor_ms": _MS * floor.seconds,
                "bytes": floor.num_bytes,
                "kv_mib": cell.batch * cell.context * backbone.spec.kv_bytes_per_row / _MIB,
                "rss_mib": (psutil.Process().memory_info().rss - before) / _MIB,
            }
