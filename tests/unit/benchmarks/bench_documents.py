# SPDX-License-Identifier: Apache-2.0
"""Documents as the verbs would make them, without measuring anything."""

from __future__ import annotations

from pathlib import Path

from bench_records import steady

from duologue.benchmarks.engine.plan import Cell
from duologue.benchmarks.engine.samples import Floor, LoopTimes, Measurement, best_rows
from duologue.benchmarks.machine import describe_machine
from duologue.benchmarks.reports.bundle_facts import describe_bundle
from duologue.benchmarks.reports.document import make_document
from duologue.benchmarks.stream.door import door_figures
from duologue.benchmarks.stream.levels import stream_figures, throughput
from duologue.benchmarks.stream.loops import Load
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle

KINDS = ("engine", "stream", "offline", "door", "context", "growth")
NO_RESOURCES = dict.fromkeys(
    (
        "client_cpu_percent",
        "client_rss_mib",
        "server_cpu_percent",
        "server_rss_mib",
        "gpu_memory_mib",
        "gpu_percent",
    )
)


def document(kind, factor=1.0):
    """A document whose times are `factor` times as long."""
    bundle = describe_bundle(Bundle.load(Path(resolve_bundle("noise"))))
    result = {
        "engine": _rows,
        "stream": _levels,
        "offline": _offline,
        "door": _door,
        "context": _windows,
        "growth": _points,
    }[kind](factor)
    return make_document(
        kind, result, command=f"duologue bench {kind}", machine=describe_machine(), bundle=bundle
    )


def _rows(factor):
    def times(step_s):
        return LoopTimes([0.1], [step_s * (1 + i / 100) for i in range(20)], [0.001] * 20)

    return best_rows(
        [
            Measurement(
                "onnx",
                "int8",
                Cell(batch, context),
                1,
                times(0.004 * batch * factor),
                times(0.02 * batch),
                Floor(10**6, 10**6, 0.0004, 0.0001),
            )
            for batch in (1, 8)
            for context in (100, 1000)
        ]
    )


def _load(factor):
    records = [steady(5, gap=0.4 * factor, start=0.01 * i) for i in range(20)]
    return Load(tuple(records), 0.0, max(record.ended_s for record in records))


def _levels(factor):
    load = _load(factor)
    common = {
        "workloads": ["en_30s"],
        "max_seconds": None,
        "real_time": False,
        "warmup": 0,
        "codec_s_per_audio_s": 0.01 * factor,
        **stream_figures(load.measured),
        **throughput(load),
        "resources": NO_RESOURCES,
    }
    heads = [("closed", 1, None), ("closed", 4, None), ("open", 1.5 * factor, 2.0)]
    return [
        {"loop": loop, "concurrency": concurrency, "rate_per_s": rate, **common}
        for loop, concurrency, rate in heads
    ]


def _offline(factor):
    figures = stream_figures(_load(factor).measured)
    dialogue = {"workload": "en_30s", "audio_s": 2.5, "seconds": 2.0 * factor, "error": None}
    return {
        "engine": "onnx",
        "dtype": "int8",
        "slots": 4,
        "kv_bytes": 1000,
        "dialogues": [dialogue],
        **figures,
        "wall_s": 2.0 * factor,
        "audio_s_per_s": figures["audio_s"] / (2.0 * factor),
        "codec_s_per_audio_s": 0.01 * factor,
        "frames_decoded_per_frame": 2.0,
        "resources": NO_RESOURCES,
    }


def _door(factor):
    return door_figures([(steady(5), steady(5, gap=0.5 * (1 + 0.02 * factor)))] * 20)


def _windows(factor):
    return [
        {
            "hop": hop,
            "left": left,
            "right": right,
            "lsd_db": factor / (1 + left + right),
            "snr_db": 20.0 + left,
            "jump_db": -20.0,
            "seam_score": 2.0,
            "frames_per_frame": (hop + left + right) / hop,
        }
        for hop in (4, 25)
        for left in (0, 10)
        for right in (0, 2)
    ]


def _points(factor):
    return [
        {
            "axis": axis,
            "engine": "onnx",
            "dtype": "float32",
            "batch": batch,
            "context": context,
            "step_ms": 2.0 * batch * factor,
            "step_ci_ms": [1.9 * batch * factor, 2.1 * batch * factor],
            "prefill_ms": 9.0,
            "floor_ms": 1.0,
            "bytes": 1000,
            "kv_mib": 6.0 * batch,
            "rss_mib": 50.0 + 6.0 * batch,
        }
        for axis, batch, context in (("batch", 1, 100), ("batch", 8, 100), ("context", 1, 1000))
    ]
