# SPDX-License-Identifier: Apache-2.0
"""What a loop over the language model gives, and which thread count served it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from duologue.benchmarks.engine.plan import Cell
from duologue.benchmarks.statistics import percentile, percentile_interval

_MS = 1e3
_DIGITS = 5


@dataclass(slots=True)
class LoopTimes:
    """Seconds that one loop took.

    Attributes:
        prefill_s: reading one prompt of the cell's context, once per round.
        step_s: whole decode steps with sampling.
        sampling_s: the part of each step that chooses ids.
    """

    prefill_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    sampling_s: list[float] = field(default_factory=list)

    @property
    def median_step_s(self) -> float:
        """The usual step."""
        return percentile(self.step_s, 0.5)


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a step can take on this machine.

    Attributes:
        num_bytes: weights and KV cache that a step must read.
        flops: operations that it must do.
        bytes_s: reading as many bytes took so long.
        flops_s: a matrix product of as many operations took so long.
    """

    num_bytes: int
    flops: int
    bytes_s: float
    flops_s: float

    @property
    def seconds(self) -> float:
        """Both overlap at best, so the longer one counts."""
        return max(self.bytes_s, self.flops_s)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One cell of one engine at one thread count, all taken in the same minutes."""

    engine: str
    dtype: str
    cell: Cell
    threads: int
    ours: LoopTimes
    plain: LoopTimes
    floor: Floor


def best_rows(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One row per engine and cell: each side, and the floor, at the thread count that suits it.

    Returns:
        Rows as the schema of `bench engine` describes them, in the order of first appearance.
    """
    groups: dict[tuple[str, Cell], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.engine, measurement.cell), []).append(measurement)
    return [_row(group) for group in groups.values()]


def _row(group: list[Measurement]) -> dict[str, Any]:
    best = min(group, key=lambda one: one.ours.median_step_s)
    plain = min(group, key=lambda one: one.plain.median_step_s)
    floor = min((one.floor for one in group), key=lambda one: one.seconds)
    step_s, plain_s = best.ours.median_step_s, plain.plain.median_step_s
    return {
        "engine": best.engine,
        "dtype": best.dtype,
        "batch": best.cell.batch,
        "context": best.cell.context,
        "threads": best.threads,
        "step_ms": _ms(step_s),
        "step_ci_ms": _interval_ms(best.ours.step_s),
        "sampling_ms": _ms(percentile(best.ours.sampling_s, 0.5)),
        "prefill_ms": _ms(percentile(best.ours.prefill_s, 0.5)),
        "plain_threads": plain.threads,
        "plain_ms": _ms(plain_s),
        "plain_ci_ms": _interval_ms(plain.plain.step_s),
        "plain_sampling_ms": _ms(percentile(plain.plain.sampling_s, 0.5)),
        "plain_prefill_ms": _ms(percentile(plain.plain.prefill_s, 0.5)),
        "floor_ms": _ms(floor.seconds),
        "floor_bytes_ms": _ms(floor.bytes_s),
        "floor_flops_ms": _ms(floor.flops_s),
        "bytes": floor.num_bytes,
        "flops": floor.flops,
        "speedup": round(plain_s / step_s, 3),
        "floor_share": round(floor.seconds / step_s, 3),
        "num_steps": len(best.ours.step_s),
    }


def _ms(seconds: float) -> float:
    return round(seconds * _MS, _DIGITS)


def _interval_ms(seconds: Sequence[float]) -> list[float | None]:
    interval = percentile_interval(seconds, 0.5)
    return [None if b is None else _ms(b) for b in (interval.low, interval.high)]
