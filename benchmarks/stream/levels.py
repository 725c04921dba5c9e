# SPDX-License-Identifier: Apache-2.0
"""From the records of a load to the figures of one level: pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from duologue.benchmarks.statistics import Summary, mean_interval
from duologue.benchmarks.stream.clicks import seam_scores
from duologue.benchmarks.stream.loops import Load
from duologue.benchmarks.stream.playback import gaps_s, play
from duologue.benchmarks.stream.records import RequestRecord

_MS = 1e3
_SLICES = 20


def stream_figures(records: Sequence[RequestRecord]) -> dict[str, Any]:
    """What the callers of these requests saw; failed requests are counted and left out.

    `rtf` is the median of the requests' own, `rtf_per_request` their percentiles.
    """
    good = [record for record in records if record.error is None and record.audio_s > 0]
    failed = [record for record in records if record.error is not None or record.audio_s == 0]
    kinds = Counter((record.error or "no audio").partition(":")[0] for record in failed)
    played = [play(record.arrivals, record.sample_rate_hz) for record in good]
    rtf = Summary.of([record.rtf for record in good])
    gaps = [gap for record in good for gap in gaps_s(record.arrivals)]
    scores = [score for record in good for score in seam_scores(record.seams)]
    return {
        "requests": len(records),
        "failures": len(failed),
        "errors": dict(sorted(kinds.items())),
        "audio_s": sum(record.audio_s for record in good),
        "ttfa_ms": Summary.of([r.ttfa_s for r in good]).scaled(_MS).to_json(),
        "first_chunk_ms": Summary.of([r.first_chunk_s for r in good]).scaled(_MS).to_json(),
        "gap_ms": Summary.of(gaps).scaled(_MS).to_json(),
        "rtf": rtf.p50,
        "rtf_per_request": rtf.to_json(),
        "underruns": sum(one.underruns for one in played),
        "underrun_requests": sum(one.underruns > 0 for one in played),
        "stalled_s": sum(one.stalled_s for one in played),
        "seam_score": Summary.of(scores).to_json(),
    }


def throughput(load: Load) -> dict[str, Any]:
    """Seconds of audio that came per second of the full load, with an interval.

    All chunks within the window count, also those of requests that only began or ended in it:
    else a level with few long requests would look slower than it is.
    """
    length_s = load.stop_s - load.start_s
    if length_s <= 0:
        return {"audio_s_per_s": None, "audio_s_per_s_ci": [None, None], "window_s": 0.0}
    slices = audio_per_slice_s(load, _SLICES)
    rates = [audio_s * _SLICES / length_s for audio_s in slices]
    interval = mean_interval(rates)
    return {
        "audio_s_per_s": sum(slices) / length_s,
        "audio_s_per_s_ci": [interval.low, interval.high],
        "window_s": length_s,
    }


def audio_per_slice_s(load: Load, num_slices: int) -> list[float]:
    """Seconds of audio that came in each of so many equal parts of the window."""
    length_s = load.stop_s - load.start_s
    slices = [0.0] * num_slices
    for record in load.records:
        for arrival in record.arrivals:
            share = (arrival.at_s - load.start_s) / length_s
            if 0.0 <= share <= 1.0:
                place = min(int(share * num_slices), num_slices - 1)
                slices[place] += arrival.num_samples / record.sample_rate_hz
    return slices


def mean_in_flight(load: Load) -> float:
    """Requests that were open at a time, on average over the window."""
    length_s = load.stop_s - load.start_s
    if length_s <= 0:
        return float(len(load.measured))
    inside_s = sum(
        max(0.0, min(record.ended_s, load.stop_s) - max(record.started_s, load.start_s))
        for record in load.records
    )
    return inside_s / length_s
