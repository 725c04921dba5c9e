# SPDX-License-Identifier: Apache-2.0
"""`bench door`: what Triton, BLS and gRPC add to the synthesizer alone.

The same request with the same seed goes through the server and through a synthesizer of this
process, one after the other and with changing order, so that both meet the same machine. Chunk i
of one is chunk i of the other, so they are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from duologue.benchmarks.statistics import Summary
from duologue.benchmarks.stream.listen import Listener
from duologue.benchmarks.stream.plan import StreamPlan
from duologue.benchmarks.stream.playback import gaps_s
from duologue.benchmarks.stream.records import RequestRecord
from duologue.benchmarks.workload import CodeShape

_MS = 1e3

Pair = tuple[RequestRecord, RequestRecord]


def run_door_bench(
    inside: Listener,
    door: Listener,
    shape: CodeShape,
    plan: StreamPlan,
    progress: Callable[[], None],
) -> dict[str, Any]:
    """Take the plan's requests one at a time, in both ways.

    Args:
        inside: asks the synthesizer of this process.
        door: asks the server.
        shape: of the model's codes.
        plan: its workloads, requests and warm-up; its levels do not matter here.
        progress: told of each pair that ended.
    """
    pairs: list[Pair] = []
    for index in range(plan.warmup + plan.requests):
        ask, is_warmup = plan.ask(index, shape), index < plan.warmup
        if index % 2 == 0:
            alone = inside.listen(ask, is_warmup=is_warmup)
            through = door.listen(ask, is_warmup=is_warmup)
        else:
            through = door.listen(ask, is_warmup=is_warmup)
            alone = inside.listen(ask, is_warmup=is_warmup)
        if not is_warmup:
            pairs.append((alone, through))
        progress()
    return door_figures(pairs)


def door_figures(pairs: list[Pair]) -> dict[str, Any]:
    """What the door adds: to the first chunk, to the gaps, and to the whole per chunk.

    `gap_added_ms` compares neighbouring chunks, gap by gap. `chunk_added_ms` spreads over the
    chunks after the first what the whole stream takes longer: it counts processor time that
    the door takes from the engine, which single gaps may hide.
    """
    good = [(a, b) for a, b in pairs if _are_alike(a, b)]
    first = [b.ttfa_s - a.ttfa_s for a, b in good]
    gaps = [
        through - alone
        for a, b in good
        for alone, through in zip(gaps_s(a.arrivals), gaps_s(b.arrivals), strict=True)
    ]
    chunk = [
        (_after_first_s(b) - _after_first_s(a)) / (len(a.arrivals) - 1)
        for a, b in good
        if len(a.arrivals) > 1
    ]
    return {
        "pairs": len(pairs),
        "failures": len(pairs) - len(good),
        "first_added_ms": Summary.of(first).scaled(_MS).to_json(),
        "gap_added_ms": Summary.of(gaps).scaled(_MS).to_json(),
        "chunk_added_ms": Summary.of(chunk).scaled(_MS).to_json(),
        "ttfa_inside_ms": Summary.of([a.ttfa_s for a, _ in good]).scaled(_MS).to_json(),
        "ttfa_door_ms": Summary.of([b.ttfa_s for _, b in good]).scaled(_MS).to_json(),
        "first_chunk_ms": Summary.of([a.first_chunk_s for a, _ in good]).scaled(_MS).to_json(),
    }


def _are_alike(alone: RequestRecord, through: RequestRecord) -> bool:
    """Both gave audio in the same chunks; otherwise there is nothing to compare."""
    lengths = [[arrival.num_samples for arrival in one.arrivals] for one in (alone, through)]
    return alone.error is None and through.error is None and lengths[0] == lengths[1] != []


def _after_first_s(record: RequestRecord) -> float:
    return record.arrivals[-1].at_s - record.arrivals[0].at_s
