# SPDX-License-Identifier: Apache-2.0
"""`bench offline`: the whole set of dialogues at once through the synthesizer of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from duologue.benchmarks.stream.in_process import InProcessSpeaker, TimedCodec, code_shape
from duologue.benchmarks.stream.levels import stream_figures
from duologue.benchmarks.stream.listen import Listener
from duologue.benchmarks.stream.plan import Ask
from duologue.benchmarks.stream.records import RequestRecord
from duologue.benchmarks.stream.resources import ResourceSampler
from duologue.benchmarks.workload import Workload
from duologue.runtime.errors import DuologueError
from duologue.runtime.synthesizer import Synthesizer

_WARMUP_S = 2.0


def run_offline_bench(
    bundle_dir: Path,
    engine: str,
    workloads: Sequence[Workload],
    *,
    repeats: int,
    max_seconds: float | None,
    seed: int,
    progress: Callable[[], None],
) -> dict[str, Any]:
    """Speak every dialogue `repeats` times, all at once.

    Args:
        bundle_dir: of the bundle.
        engine: of the language model.
        workloads: the dialogues.
        repeats: copies of each, with seeds of their own.
        max_seconds: cap on the audio of each below its own; None: no other cap.
        seed: of the first request.
        progress: told of each dialogue that ended.

    Returns:
        The run, as the schema of `bench offline` describes it.

    Raises:
        ConfigError: the bundle cannot be loaded.
    """
    shape = code_shape(bundle_dir)
    dialogues = [workload for workload in workloads for _ in range(repeats)]
    asks = [
        Ask(workload.name, workload.script, workload.options(shape, seed + index, max_seconds))
        for index, workload in enumerate(dialogues)
    ]
    codec = TimedCodec.load(bundle_dir)
    synthesizer = Synthesizer.load(bundle_dir, engine=engine, max_slots=len(asks), codec=codec)
    with synthesizer:
        listener = Listener(InProcessSpeaker(synthesizer), (DuologueError,))
        _warm_up(listener, workloads[0], shape.frames(_WARMUP_S))
        codec.reset()
        with ResourceSampler() as resources:
            records, wall_s = _speak_all(listener, asks, progress)
        spec = synthesizer.backbone_spec
    return {
        "engine": spec.engine,
        "dtype": spec.dtype,
        "slots": spec.max_slots,
        "kv_bytes": spec.kv_bytes,
        **_figures(records, wall_s, codec, shape.frame_rate_hz),
        "resources": resources.figures(),
    }


def _figures(
    records: Sequence[RequestRecord], wall_s: float, codec: TimedCodec, frame_rate_hz: float
) -> dict[str, Any]:
    figures = stream_figures(records)
    audio_s = figures["audio_s"]
    decoded_s = codec.num_frames / frame_rate_hz
    return {
        "dialogues": [_dialogue(record) for record in records],
        **figures,
        "wall_s": wall_s,
        "audio_s_per_s": audio_s / wall_s,
        "codec_s_per_audio_s": codec.decode_s / audio_s if audio_s else None,
        "frames_decoded_per_frame": decoded_s / audio_s if audio_s else None,
    }


def _warm_up(listener: Listener, workload: Workload, max_frames: int) -> None:
    ask = Ask(workload.name, workload.script, {"seed": 0, "max_frames": max_frames})
    listener.listen(ask, is_warmup=True)


def _speak_all(
    listener: Listener, asks: Sequence[Ask], progress: Callable[[], None]
) -> tuple[list[RequestRecord], float]:
    """Records in the order of the asks, and the seconds that all took."""

    def speak(ask: Ask) -> RequestRecord:
        record = listener.listen(ask, is_warmup=False)
        progress()
        return record

    started_s = time.monotonic()
    with ThreadPoolExecutor(len(asks), thread_name_prefix="bench-caller") as pool:
        records = list(pool.map(speak, asks))
    return records, time.monotonic() - started_s


def _dialogue(record: RequestRecord) -> dict[str, Any]:
    return {
        "workload": record.workload,
        "audio_s": record.audio_s,
        "seconds": record.ended_s - record.started_s,
        "error": record.error,
    }
