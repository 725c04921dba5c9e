# SPDX-License-Identifier: Apache-2.0
"""Tables of curves: quality against context, and how a step grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duologue.benchmarks.reports.numbers import number, with_interval

Cells = tuple[str, ...]
Rows = Sequence[dict[str, Any]]


def context_table(rows: Rows) -> tuple[Cells, list[Cells]]:
    """Heads and cells of `bench context`."""
    heads = (
        "hop",
        "left",
        "right",
        "frames decoded per frame",
        "log-spectral distance dB",
        "SNR dB",
        "error at borders dB",
        "seam score p99",
    )
    keys = ("frames_per_frame", "lsd_db", "snr_db", "jump_db", "seam_score")
    cells = [
        (str(row["hop"]), str(row["left"]), str(row["right"]), *(number(row[key]) for key in keys))
        for row in rows
    ]
    return heads, cells


def growth_table(points: Rows) -> tuple[Cells, list[Cells]]:
    """Heads and cells of `bench growth`."""
    heads = (
        "engine",
        "along",
        "batch",
        "context",
        "step ms (95 %)",
        "floor ms",
        "ms per stream",
        "prefill ms",
        "KV MiB",
        "resident MiB",
    )
    cells: list[Cells] = [
        (
            f"{point['engine']} {point['dtype']}",
            point["axis"],
            str(point["batch"]),
            str(point["context"]),
            with_interval(point["step_ms"], point["step_ci_ms"]),
            number(point["floor_ms"]),
            number(point["step_ms"] / point["batch"]),
            number(point["prefill_ms"]),
            number(point["kv_mib"]),
            number(point["rss_mib"]),
        )
        for point in points
    ]
    return heads, cells
