# SPDX-License-Identifier: Apache-2.0
"""PNG plots of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from duologue.benchmarks.reports.canvas import new_figure
from duologue.benchmarks.reports.curve_plots import context_plots, growth_plots
from duologue.benchmarks.reports.document import RESULT_KEYS, Document

_DPI = 130
_STYLES = {"step_ms": "-o", "plain_ms": ":s", "floor_ms": "--"}
_LABELS = {"step_ms": "ours", "plain_ms": "plain loop", "floor_ms": "floor"}


def write_plots(document: Document, directory: Path, stem: str) -> list[Path]:
    """Draw a document.

    Args:
        document: checked.
        directory: made if it does not exist.
        stem: beginning of the file names.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kind = document["kind"]
    written = []
    for name, figure in _PLOTS[kind](document[RESULT_KEYS[kind]]):
        path = directory / f"{stem}_{name}.png"
        figure.savefig(path, dpi=_DPI)
        written.append(path)
    return written


def _engine(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    for along, across in (("batch", "context"), ("context", "batch")):
        figure, axes = new_figure(f"Decode step against {along}", along, "ms per step")
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((f"{row['engine']} {row['dtype']}", row[across]), []).append(row)
        for number, ((engine, value), group) in enumerate(groups.items()):
            group.sort(key=lambda row: int(row[along]))
            places = [row[along] for row in group]
            for key, style in _STYLES.items():
                label = f"{engine}, {across} {value}: {_LABELS[key]}"
                heights = [row[key] for row in group]
                axes.plot(places, heights, style, color=f"C{number}", label=label)
        axes.set(xscale="log", yscale="log")
        ticks = sorted({int(row[along]) for row in rows})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.legend(fontsize="x-small")
        yield f"step_by_{along}", figure


def _stream(levels: list[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    ordered = sorted(levels, key=lambda level: float(level["concurrency"]))
    loops = [[level for level in ordered if level["loop"] == kind] for kind in ("closed", "open")]
    figure, axes = new_figure("Time to first audio", "streams at a time", "ms")
    for group in filter(None, loops):
        places, loop = [level["concurrency"] for level in group], group[0]["loop"]
        for point in ("p50", "p90", "p99"):
            heights = [level["ttfa_ms"][point] for level in group]
            axes.plot(places, _known(heights), "-o", label=f"{loop} loop, {point}")
    axes.legend()
    yield "ttfa", figure
    figure, axes = new_figure("Throughput", "streams at a time", "seconds of audio per second")
    for group in filter(None, loops):
        places, loop = [level["concurrency"] for level in group], group[0]["loop"]
        heights = [level["audio_s_per_s"] for level in group]
        axes.plot(places, _known(heights), "-o", label=f"{loop} loop")
    axes.plot(
        [0, ordered[-1]["concurrency"]], [0, ordered[-1]["concurrency"]], ":", label="real time"
    )
    axes.legend()
    yield "throughput", figure


def _offline(run: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    figure, axes = new_figure(
        "All dialogues at once", "seconds of audio", "seconds until it was whole"
    )
    for dialogue in run["dialogues"]:
        if dialogue["error"] is None:
            axes.plot(dialogue["audio_s"], dialogue["seconds"], "o", color="C0")
            axes.annotate(dialogue["workload"], (dialogue["audio_s"], dialogue["seconds"]))
    yield "dialogues", figure


def _door(door: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    figure, axes = new_figure("What the door adds", "", "ms, median with its 95 % interval")
    names = {
        "first_added_ms": "first chunk",
        "gap_added_ms": "per gap",
        "chunk_added_ms": "per chunk",
    }
    for key, label in names.items():
        summary = door[key]
        if summary["p50"] is None:
            continue
        axes.bar(label, summary["p50"], color="C0")
        low, high = summary["p50_ci"]
        if low is not None and high is not None:
            axes.plot([label, label], [low, high], "k-")
    yield "added", figure


def _known(values: list[float | None]) -> list[float]:
    """Unknown values leave a gap in the line."""
    return [float("nan") if value is None else value for value in values]


_PLOTS: dict[str, Callable[[Any], Iterator[tuple[str, Figure]]]] = {
    "engine": _engine,
    "stream": _stream,
    "offline": _offline,
    "door": _door,
    "context": context_plots,
    "growth": growth_plots,
}
