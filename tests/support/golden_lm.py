"""Recorded greedy generations of MOSS-TTSD v0.7, and the real engine to repeat them with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import numpy as np

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.codec_worker import CodecWorker
from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import (
    ChannelSampling,
    FloatArray,
    IntArray,
    Logits,
    Script,
    Turn,
)
from duologue.runtime.engine import Engine
from duologue.runtime.job import Job
from duologue.runtime.lm.sequence import Sequence as Speech
from duologue.runtime.lm.sequence import new_sequence
from duologue.runtime.passes import OnePass
from duologue.runtime.stream import SpeechStream

DATA = Path(__file__).parents[1] / "golden" / "data" / "lm_scaled"
SUMMARY = json.loads((DATA / "golden" / "summary.json").read_text())
GREEDY_CASES = [
    "b1_text",
    "b1_prompt13",
    "b1_prompt3",
    "b3_mixed",
    "b3_prompt",
    "b3_reppen_greedy",
]
TOKENS = TokenIds(
    speech_start=278, speech_stop=342, end_of_speech=347, pad=256, speech_pad=64, eos=(256,)
)
MAX_FRAMES = 60
"""The cap under which the cases were recorded."""
MAX_ROWS = 320
_SCRIPT = Script((Turn(1, "one"),))


@dataclass(frozen=True, eq=False)
class GoldenRow:
    """One sequence of a recorded batch.

    Attributes:
        name: of its case, and its place there.
        aligned: [T, K], the prompt before the delay.
        sampling: K settings.
        wanted_rows: [S, K], the delayed rows that were written, until the row ended.
        wanted_frames: [K, T], the codes that were spoken.
        logits: [S, sum(V_c)], masked, before the processors.
    """

    name: str
    aligned: IntArray
    sampling: tuple[ChannelSampling, ...]
    wanted_rows: IntArray
    wanted_frames: IntArray
    logits: FloatArray

    def start(self, lm: LmConfig) -> Speech:
        """The sequence before its first step."""
        return start_sequence(lm, self.aligned, self.sampling, seed=0, max_frames=MAX_FRAMES)


def read_rows(case: str) -> list[GoldenRow]:
    """The sequences of a recorded batch."""
    layers = SUMMARY[case]["layers"] or [{}] * 8
    sampling = tuple(ChannelSampling(do_sample=False, **layer) for layer in layers)
    with np.load(DATA / "golden" / f"{case}.npz") as data:
        return [_read_row(data, case, row, sampling) for row in range(len(data["sequences"]))]


def _read_row(data: Any, case: str, row: int, sampling: tuple[ChannelSampling, ...]) -> GoldenRow:
    frames: IntArray = data[f"speech_{row}"].T
    num_rows = frames.shape[1] + 7
    written = data["sequences"][row, int(data["base_length"]) :]
    rest = data["logits_ch1_7"][:num_rows, row].reshape(num_rows, -1)
    return GoldenRow(
        f"{case}[{row}]",
        data[f"unshifted_{row}"],
        sampling,
        written[:num_rows],
        frames,
        np.concatenate([data["logits_ch0"][:num_rows, row], rest], axis=1),
    )


def start_sequence(
    lm: LmConfig,
    aligned: IntArray,
    sampling: tuple[ChannelSampling, ...],
    *,
    seed: int,
    max_frames: int,
) -> Speech:
    """A sequence of the golden model."""
    return new_sequence(
        aligned,
        lm=lm,
        tokens=TOKENS,
        sampling=sampling,
        seed=seed,
        max_frames=max_frames,
        min_frames=1,
        max_rows=MAX_ROWS,
        codebook_size=64,
    )


def random_neighbour(lm: LmConfig, rng: np.random.Generator) -> Speech:
    """A sequence that has nothing to do with the recorded ones, of random length."""
    num_text, num_codes = (int(n) for n in rng.integers(1, 60, 2))
    aligned = np.full((num_text + num_codes, lm.num_channels), TOKENS.speech_pad, np.int64)
    aligned[:num_text, 0] = rng.integers(0, 256, num_text)
    aligned[num_text:] = rng.integers(0, 64, (num_codes, lm.num_channels))
    aligned[num_text:, 0] += TOKENS.speech_start
    sampling = (ChannelSampling(temperature=0.8, top_k=20, repetition_penalty=1.1),) * 8
    seed, max_frames = (int(n) for n in rng.integers(1, 40, 2))
    return start_sequence(lm, aligned, sampling, seed=seed, max_frames=max_frames)


@dataclass(eq=False)
class WatchedBackbone:
    """A real engine that notes who shares its steps.

    Attributes:
        backbone: the engine.
        on_decode: called with the number of the decode step before it runs.
        batches: the slots of each decode step.
    """

    backbone: Backbone
    on_decode: Callable[[int], None] = lambda step: None
    batches: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        self.on_decode(len(self.batches))
        self.batches.append(tuple(slots))
        return self.backbone.decode(slots, input_ids)


class Bench:
    """The real engine on a real language model, for codes without audio.

    Args:
        backbone: of the golden checkpoint.
    """

    def __init__(self, backbone: Any) -> None:
        codec = dataclasses.replace(fakes.CODEC, num_codebooks=8, codebook_size=64)
        self._bundle = dataclasses.replace(
            fakes.BUNDLE,
            lm=backbone.spec.lm,
            tokens=TOKENS,
            codec=codec,
            sampling=(ChannelSampling(do_sample=False),) * 8,
        )
        self._worker = CodecWorker(fakes.FakeCodec(), max_batch=1)
        self._engine = Engine(backbone, self._worker, max_waiting=100, max_prefill_rows=64)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.close()
        self._worker.close()

    def submit(self, sequence: Speech) -> SpeechStream:
        """Let the engine write a sequence to its end."""
        stream = SpeechStream(
            script=_SCRIPT, seed=0, sample_rate_hz=100, max_ahead_s=None, max_backlog_samples=10**9
        )
        passes = OnePass(_SCRIPT, lambda order: sequence, None, expected_frames=20)
        self._engine.submit(Job(self._bundle, passes, stream, codes_only=True))
        return stream
