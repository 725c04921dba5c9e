# SPDX-License-Identifier: Apache-2.0
"""`bench engine`: all cells of a plan, our engine and the plain loop in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from duologue.benchmarks.engine.floor import measure_floor
from duologue.benchmarks.engine.our_loop import OurLoop, speech_rows
from duologue.benchmarks.engine.plain_loop import PlainLoop
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes, Measurement, best_rows
from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.config import Bundle

_WEIGHTS = "lm.safetensors"

Progress = Callable[[], None]


def run_engine_bench(
    bundle_dir: Path, plan: EnginePlan, progress: Progress = lambda: None
) -> list[dict[str, Any]]:
    """Measure a bundle's engines.

    Args:
        bundle_dir: of the bundle.
        plan: what to measure.
        progress: told of each cell that was measured.

    Returns:
        One row per engine and cell; see `samples.best_rows`.

    Raises:
        ConfigError: the bundle, or a context longer than its model's positions.
        EngineUnavailableError: an engine cannot run here.
    """
    bundle = Bundle.load(bundle_dir)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else _half()
    plain = PlainLoop(bundle, _plain_weights(bundle, bundle_dir), plan, device, dtype)
    threads_before = torch.get_num_threads()
    try:
        measured = list(_measure_all(bundle, bundle_dir, plan, plain, device, progress))
    finally:
        torch.set_num_threads(threads_before)
    return best_rows(measured)


def _plain_weights(bundle: Bundle, bundle_dir: Path) -> Path:
    """What the plain loop reads: the weights as they were stored, or else the torch engine's."""
    stored = bundle_dir / _WEIGHTS
    narrow = bundle.engines.get("torch", {}).get("weights")
    return bundle_dir / str(narrow) if narrow and not stored.is_file() else stored


def _half() -> torch.dtype:
    """What a user would take on this GPU."""
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float16


def _measure_all(
    bundle: Bundle,
    bundle_dir: Path,
    plan: EnginePlan,
    plain: PlainLoop,
    device: str,
    progress: Progress,
) -> Iterator[Measurement]:
    for engine in plan.engines:
        for threads in plan.threads:
            torch.set_num_threads(threads)
            backbone = load_backbone(
                bundle,
                bundle_dir,
                engine=engine,
                max_slots=max(plan.batches),
                max_rows=plan.rows_needed,
                num_threads=threads,
            )
            with closing(backbone):
                for cell in plan.cells:
                    measurement = _measure(bundle, backbone, plan, plain, cell, threads, device)
                    progress()
                    yield measurement


def _measure(
    bundle: Bundle,
    backbone: Backbone,
    plan: EnginePlan,
    plain: PlainLoop,
    cell: Cell,
    threads: int,
    device: str,
) -> Measurement:
    ours, plain_times = LoopTimes(), LoopTimes()
    loop = OurLoop(bundle, backbone, plan)
    prompt = speech_rows(bundle, cell.context, plan.seed)
    turns: list[Callable[[], None]] = [
        lambda: loop.run_round(cell, ours),
        lambda: plain.run_round(prompt, cell, plain_times),
    ]
    for round_idx in range(plan.rounds):
        # Who comes second finds other caches and another clock: so both come second equally often.
        for take_turn in turns if round_idx % 2 == 0 else reversed(turns):
            take_turn()
    floor = measure_floor(backbone.spec, cell, device)
    spec = backbone.spec
    return Measurement(spec.engine, spec.dtype, cell, threads, ours, plain_times, floor)
