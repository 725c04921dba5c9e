# SPDX-License-Identifier: Apache-2.0
"""Plots of curves: quality against context, and how a step grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duologue.benchmarks.reports.canvas import new_figure

Rows = Sequence[dict[str, Any]]


def context_plots(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Distance against either context, a panel per hop."""
    for name, along, across in (("left", "left", "right"), ("right", "right", "left")):
        label = f"frames of {along} context"
        figure, axes = new_figure("Streamed against whole decoding", label, "distance in dB")
        for hop in sorted({row["hop"] for row in rows}):
            group = [row for row in rows if row["hop"] == hop]
            # The other context at its middle value: enough, and not more.
            values = sorted({row[across] for row in group})
            fixed = values[len(values) // 2]
            line = sorted((r[along], r["lsd_db"]) for r in group if r[across] == fixed)
            axes.plot(*zip(*line, strict=True), "-o", label=f"hop {hop}, {across} {fixed}")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="x-small")
        yield f"by_{name}", figure


def growth_plots(points: Rows) -> Iterator[tuple[str, Figure]]:
    """Step time along both lines with its floor, and memory against streams."""
    for axis in ("batch", "context"):
        line = sorted((p for p in points if p["axis"] == axis), key=lambda p: int(p[axis]))
        if not line:
            continue
        places = [point[axis] for point in line]
        figure, axes = new_figure(f"Decode step against {axis}", axis, "ms per step")
        axes.plot(places, [point["step_ms"] for point in line], "-o", label="ours")
        axes.plot(places, [point["floor_ms"] for point in line], "--", label="floor")
        _log_scales(axes, places)
        yield f"step_by_{axis}", figure
        figure, axes = new_figure(f"Memory against {axis}", axis, "MiB")
        axes.plot(places, [point["rss_mib"] for point in line], "-o", label="resident, since start")
        axes.plot(places, [point["kv_mib"] for point in line], "--", label="keys and values")
        _log_scales(axes, places)
        yield f"memory_by_{axis}", figure


def _log_scales(axes: Axes, places: Sequence[int]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize="x-small")
