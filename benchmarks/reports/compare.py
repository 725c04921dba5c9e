# SPDX-License-Identifier: Apache-2.0
"""Two documents of one kind: what became better, worse, or cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from duologue.benchmarks.reports.document import RESULT_KEYS, Document
from duologue.client.errors import RequestError

Key = tuple[str, ...]
Bounds = tuple[float | None, float | None]


class Verdict(str, Enum):
    """How a figure changed."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    MISSING = "missing"
    """It was measured before and no longer is: nobody knows whether it became worse."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is compared.

    Attributes:
        name: for people.
        path: where it stands in a row.
        interval: where its 95 % interval stands, if it has one.
        higher_is_better: False for times and faults.
        is_fault: a count of what must not happen: any rise is a change for the worse.
    """

    name: str
    path: tuple[str, ...]
    interval: tuple[str, ...] = ()
    higher_is_better: bool = False
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one row in both documents.

    Attributes:
        row: which row, as its key's values.
        metric: name of the figure.
        before, after: None where it is unknown.
        verdict: what became of it.
    """

    row: Key
    metric: str
    before: float | None
    after: float | None
    verdict: Verdict

    @property
    def is_regression(self) -> bool:
        """Whether a comparison fails because of it."""
        return self.verdict in (Verdict.WORSE, Verdict.MISSING)


def _percentile(name: str, field: str, point: str = "p50") -> Metric:
    return Metric(f"{name} {point}", (field, point), (field, f"{point}_ci"))


_FAILURES = Metric("failures", ("failures",), is_fault=True)
_UNDERRUNS = Metric("underruns", ("underruns",), is_fault=True)
_METRICS: dict[str, tuple[Metric, ...]] = {
    "engine": (Metric("step ms", ("step_ms",), ("step_ci_ms",)),),
    "stream": (
        _percentile("TTFA ms", "ttfa_ms"),
        _percentile("TTFA ms", "ttfa_ms", "p99"),
        _percentile("RTF", "rtf_per_request"),
        Metric("audio s per s", ("audio_s_per_s",), ("audio_s_per_s_ci",), higher_is_better=True),
        _UNDERRUNS,
        _FAILURES,
    ),
    "offline": (
        Metric("audio s per s", ("audio_s_per_s",), higher_is_better=True),
        Metric("codec s per audio s", ("codec_s_per_audio_s",)),
        _FAILURES,
    ),
    "door": (
        _percentile("through the door, first chunk ms", "ttfa_door_ms"),
        _percentile("added per gap ms", "gap_added_ms"),
        _FAILURES,
    ),
    "context": (
        Metric("log-spectral distance dB", ("lsd_db",)),
        Metric("frames decoded per frame", ("frames_per_frame",)),
    ),
    "growth": (Metric("step ms", ("step_ms",), ("step_ci_ms",)),),
}
_KEYS: dict[str, tuple[str, ...]] = {
    "engine": ("engine", "dtype", "batch", "context"),
    "offline": ("engine", "dtype"),
    "door": (),
    "context": ("hop", "left", "right"),
    "growth": ("axis", "engine", "dtype", "batch", "context"),
}


def compare(before: Document, after: Document, tolerance: float) -> list[Change]:
    """Compare figure by figure.

    A figure has changed when it differs by more than the tolerance and, where both intervals
    are known, these do not overlap: noise is no regression.

    Args:
        before: the older document, checked.
        after: the newer one.
        tolerance: share of the old figure, e.g. 0.1.

    Raises:
        RequestError: the documents are of two kinds.
    """
    kind = before["kind"]
    if after["kind"] != kind:
        raise RequestError(f"a result of {kind!r} and one of {after['kind']!r} cannot be compared")
    old, new = _rows(before), _rows(after)
    return [
        _change(key, metric, row, new.get(key), tolerance)
        for key, row in old.items()
        for metric in _METRICS[kind]
    ]


def _rows(document: Document) -> dict[Key, dict[str, Any]]:
    kind = document["kind"]
    found = document[RESULT_KEYS[kind]]
    rows = found if isinstance(found, list) else [found]
    return {_key(kind, row): row for row in rows}


def _key(kind: str, row: dict[str, Any]) -> Key:
    if kind == "stream":
        return _stream_key(row)
    return tuple(f"{name} {row[name]}" for name in _KEYS[kind])


def _stream_key(row: dict[str, Any]) -> Key:
    # An open loop is known by its rate: how many were in flight is a result.
    is_closed = row["loop"] == "closed"
    load = f"{row['concurrency']:g} at a time" if is_closed else f"{row['rate_per_s']:g} per s"
    pace = "in real time" if row["real_time"] else "unpaced"
    cap = "whole" if row["max_seconds"] is None else f"at most {row['max_seconds']:g} s"
    return (load, pace, cap, *row["workloads"])


def _change(
    key: Key, metric: Metric, old: dict[str, Any], new: dict[str, Any] | None, tolerance: float
) -> Change:
    before = _at(old, metric.path)
    after = None if new is None else _at(new, metric.path)
    if before is None or new is None or after is None:
        verdict = Verdict.SAME if before is None else Verdict.MISSING
        return Change(key, metric.name, before, after, verdict)
    bounds = (_bounds(old, metric), _bounds(new, metric))
    return Change(key, metric.name, before, after, _judge(metric, before, after, bounds, tolerance))


def _judge(
    metric: Metric, before: float, after: float, bounds: Sequence[Bounds], tolerance: float
) -> Verdict:
    has_grown = after > before
    if before == after:
        return Verdict.SAME
    is_noise = abs(after - before) <= tolerance * abs(before) or _overlap(*bounds)
    if is_noise and not metric.is_fault:
        return Verdict.SAME
    return Verdict.BETTER if has_grown == metric.higher_is_better else Verdict.WORSE


def _overlap(one: Bounds, other: Bounds) -> bool:
    """Whether two known intervals share a value; an unknown one says nothing."""
    if one[0] is None or one[1] is None or other[0] is None or other[1] is None:
        return False
    return one[0] <= other[1] and other[0] <= one[1]


def _bounds(row: dict[str, Any], metric: Metric) -> Bounds:
    if not metric.interval:
        return (None, None)
    low, high = _walk(row, metric.interval)
    return (low, high)


def _at(row: dict[str, Any], path: Sequence[str]) -> float | None:
    value = _walk(row, path)
    return None if value is None else float(value)


def _walk(row: dict[str, Any], path: Sequence[str]) -> Any:
    value: Any = row
    for name in path:
        value = value[name]
    return value
