# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of documents, each with the command that makes it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from duologue.benchmarks.reports.compare import Change
from duologue.benchmarks.reports.curve_tables import context_table, growth_table
from duologue.benchmarks.reports.document import RESULT_KEYS, Document
from duologue.benchmarks.reports.numbers import number, with_interval

Cells = tuple[str, ...]
_BUSY_LOAD = 0.5


def to_markdown(document: Document) -> str:
    """A heading, what was measured on what, the table, and the command under it."""
    kind = document["kind"]
    heads, rows = _TABLES[kind](document[RESULT_KEYS[kind]])
    lines = [f"## {_TITLES[kind]}", "", *_preface(document), "", *_table(heads, rows), ""]
    return "\n".join([*lines, "```bash", document["command"], "```", ""])


def _preface(document: Document) -> list[str]:
    machine, bundle = document["machine"], document["bundle"]
    lm = bundle["lm"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    # A bundle of somebody's checkpoint says that it is trained without knowing.
    state = "" if bundle["trained"] else " (random weights)"
    lines = [
        f"{document['created']}, {machine['cpu']}, {machine['cores']} cores, {gpus}; {versions}.",
        f"Bundle `{bundle['name']}`{state}: {lm['num_layers']} layers of {lm['hidden_size']}, "
        f"{lm['weights'] / 1e6:.3g} M weights.",
    ]
    load = machine["load_1m"]
    if load is not None and load > _BUSY_LOAD:
        lines.append(f"**The machine was busy when this began (load {load:.1f}).**")
    return lines


def _table(heads: Cells, rows: Sequence[Cells]) -> list[str]:
    rule = tuple("---" for _ in heads)
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _engine(rows: list[dict[str, Any]]) -> tuple[Cells, list[Cells]]:
    heads: Cells = (
        "engine",
        "batch",
        "context",
        "threads",
        "step ms (95 %)",
        "of it sampling",
        "prefill ms",
        "plain step ms",
        "plain threads",
        "times faster",
        "floor ms",
        "share of floor",
    )
    cells: list[Cells] = [
        (
            f"{row['engine']} {row['dtype']}",
            str(row["batch"]),
            str(row["context"]),
            str(row["threads"]),
            with_interval(row["step_ms"], row["step_ci_ms"]),
            number(row["sampling_ms"]),
            number(row["prefill_ms"]),
            with_interval(row["plain_ms"], row["plain_ci_ms"]),
            str(row["plain_threads"]),
            number(row["speedup"]),
            number(row["floor_ms"]),
            f"{100 * row['floor_share']:.0f} %",
        )
        for row in rows
    ]
    return heads, cells


def _stream(levels: list[dict[str, Any]]) -> tuple[Cells, list[Cells]]:
    heads = (
        "load",
        "requests",
        "failed",
        "TTFA ms p50 / p90 / p99",
        "first chunk ms",
        "gap ms p50 / p99",
        "RTF p50",
        "audio s per s (95 %)",
        "underruns",
        "seam score p99",
        "codec s per audio s",
        "server CPU %, MiB",
    )
    return heads, [_stream_cells(level) for level in levels]


def _stream_cells(level: dict[str, Any]) -> Cells:
    ttfa, gap, used = level["ttfa_ms"], level["gap_ms"], level["resources"]
    is_open = level["loop"] == "open"
    load = f"{level['rate_per_s']:g} per s" if is_open else f"{level['concurrency']:g} at a time"
    return (
        f"{load}, in real time" if level["real_time"] else load,
        str(level["requests"]),
        str(level["failures"]),
        " / ".join(number(ttfa[key]) for key in ("p50", "p90", "p99")),
        number(level["first_chunk_ms"]["p50"]),
        " / ".join(number(gap[key]) for key in ("p50", "p99")),
        number(level["rtf"]),
        with_interval(level["audio_s_per_s"], level["audio_s_per_s_ci"]),
        f"{level['underruns']} in {level['underrun_requests']}",
        number(level["seam_score"]["p99"]),
        number(level["codec_s_per_audio_s"]),
        f"{number(used['server_cpu_percent'])}, {number(used['server_rss_mib'])}",
    )


def _offline(run: dict[str, Any]) -> tuple[Cells, list[Cells]]:
    heads = ("figure", "value")
    failed = ", ".join(f"{count} {kind}" for kind, count in run["errors"].items())
    failures = f"{run['failures']} ({failed})" if failed else str(run["failures"])
    return heads, [
        ("engine", f"{run['engine']} {run['dtype']}, {run['slots']} slots"),
        ("dialogues", str(run["requests"])),
        ("failed", failures),
        ("audio s", number(run["audio_s"])),
        ("wall s", number(run["wall_s"])),
        ("audio s per s", number(run["audio_s_per_s"])),
        ("codec s per audio s", number(run["codec_s_per_audio_s"])),
        ("frames decoded per frame of audio", number(run["frames_decoded_per_frame"])),
        ("seam score p50 / p99", _pair(run["seam_score"])),
        ("CPU %, peak MiB", _own_use(run["resources"])),
    ]


def _pair(summary: dict[str, Any]) -> str:
    return f"{number(summary['p50'])} / {number(summary['p99'])}"


def _own_use(used: dict[str, Any]) -> str:
    return f"{number(used['client_cpu_percent'])}, {number(used['client_rss_mib'])}"


def _door(door: dict[str, Any]) -> tuple[Cells, list[Cells]]:
    heads: Cells = ("ms", "median (95 %)", "p90", "p99", "values")
    names = {
        "ttfa_inside_ms": "first audio in process",
        "ttfa_door_ms": "first audio through the door",
        "first_added_ms": "added to the first chunk",
        "gap_added_ms": "added per gap between chunks",
        "chunk_added_ms": "added to the whole, per chunk",
    }
    rows: list[Cells] = [
        (
            label,
            with_interval(door[key]["p50"], door[key]["p50_ci"]),
            number(door[key]["p90"]),
            number(door[key]["p99"]),
            str(door[key]["count"]),
        )
        for key, label in names.items()
    ]
    return heads, rows


def changes_to_markdown(changes: Sequence[Change]) -> str:
    """One line per figure of a comparison, what became worse first."""
    ordered = sorted(changes, key=lambda change: not change.is_regression)
    rows = [
        (
            ", ".join(change.row),
            change.metric,
            number(change.before),
            number(change.after),
            change.verdict.value,
        )
        for change in ordered
    ]
    return "\n".join(_table(("row", "figure", "before", "after", "verdict"), rows))


_TITLES = {
    "engine": "Steps of the language model",
    "stream": "Streams",
    "offline": "All dialogues at once, in one process",
    "door": "What the door adds",
    "context": "Streamed against whole decoding",
    "growth": "How a step grows",
}
_TABLES: dict[str, Callable[[Any], tuple[Cells, list[Cells]]]] = {
    "engine": _engine,
    "stream": _stream,
    "offline": _offline,
    "door": _door,
    "context": context_table,
    "growth": growth_table,
}
