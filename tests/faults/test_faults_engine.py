"""F13, F21, F22: a sick model, runaways, sameness in any company, and sample accuracy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import Judge

from duologue.models import noise_bundle_path
from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import FinishReason, IntArray, Logits, SpeechRequest
from duologue.runtime.errors import EngineError
from duologue.runtime.stream import SpeechStream
from duologue.runtime.synthesizer import Synthesizer
from duologue.runtime.text.tokenizer import TextTokenizer

pytestmark = pytest.mark.short
SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."
FRAMES = 40


class SickBackbone:
    """A language model that can be made to fail.

    Attributes:
        sick_slot: its scores are no numbers; None where all are well.
        breaks: the next step fails for everybody, as after an error of the device.
    """

    def __init__(self, inner: Backbone) -> None:
        self._inner = inner
        self.sick_slot: int | None = None
        self.breaks = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("device-side assert triggered")
        logits = self._inner.decode(slots, input_ids)
        values = logits.values.copy()
        values[[slot == self.sick_slot for slot in slots]] = np.nan
        return Logits(values, logits.offsets)


@pytest.fixture(scope="module")
def sick() -> Iterator[tuple[Synthesizer, SickBackbone]]:
    folder = noise_bundle_path()
    bundle = Bundle.load(folder)
    backbone = SickBackbone(load_backbone(bundle, folder, engine="auto", max_slots=64))
    tokenizer = TextTokenizer.from_file(folder / "tokenizer.json")
    with Synthesizer(bundle, backbone, load_codec(bundle, folder), tokenizer) as synthesizer:
        yield synthesizer, backbone


def begin(synthesizer: Synthesizer, seed: int, **options: Any) -> SpeechStream:
    return synthesizer.submit(SpeechRequest(SCRIPT, seed=seed, max_frames=FRAMES, **options))


def codes_of(stream: SpeechStream) -> list[list[int]]:
    for _ in stream:
        pass
    codes: list[list[int]] = stream.codes.tolist()
    return codes


def test_f13_scores_that_are_no_numbers_end_one_request(
    sick: tuple[Synthesizer, SickBackbone], judge: Judge
) -> None:
    synthesizer, backbone = sick
    alone = codes_of(begin(synthesizer, 1))
    neighbour = begin(synthesizer, 1)
    next(neighbour)
    backbone.sick_slot = 1  # the neighbour has slot 0
    with pytest.raises(EngineError, match="not numbers"):
        codes_of(begin(synthesizer, 2))
    backbone.sick_slot = None
    same = codes_of(neighbour) == alone
    judge("F13", "NaN: the request fails alone", f"neighbour same: {same}", same)


def test_f13_a_broken_step_ends_all_and_the_engine_goes_on(
    sick: tuple[Synthesizer, SickBackbone], judge: Judge
) -> None:
    synthesizer, backbone = sick
    alone = codes_of(begin(synthesizer, 1))
    stream = begin(synthesizer, 3)
    backbone.breaks = True
    start = time.monotonic()
    with pytest.raises(EngineError):
        codes_of(stream)
    again = codes_of(begin(synthesizer, 1))
    took_s = time.monotonic() - start
    holds = again == alone and took_s <= 60
    judge("F13", "device error: back <= 60 s, same codes", f"{took_s:.1f} s", holds)


def test_f13_a_runaway_ends_at_its_limit(
    sick: tuple[Synthesizer, SickBackbone], judge: Judge
) -> None:
    chunks = list(begin(sick[0], 1))
    reason = chunks[-1].finish_reason
    samples = sum(len(chunk.samples) for chunk in chunks)
    limit = FRAMES * sick[0].bundle.codec.samples_per_frame
    told = f"{reason}, {samples} of {limit} samples"
    holds = samples <= limit and (reason is FinishReason.LENGTH) == (samples == limit)
    judge("F13", "runaway: cut at its length, told so", told, holds)


def test_f21_the_same_codes_in_any_company(
    sick: tuple[Synthesizer, SickBackbone], judge: Judge
) -> None:
    synthesizer, _ = sick
    alone = {seed: codes_of(begin(synthesizer, seed)) for seed in range(4)}
    streams = [begin(synthesizer, seed % 4) for seed in range(64)]
    for leaver in streams[1::2]:
        next(leaver)
        leaver.cancel()
    same = sum(
        codes_of(stream) == alone[seed % 4] for seed, stream in enumerate(streams) if seed % 2 == 0
    )
    judge("F21", "batch of 64, every other cancelled", f"{same} of 32 the same", same == 32)


def test_f22_every_sample_is_in_its_place(
    sick: tuple[Synthesizer, SickBackbone], judge: Judge
) -> None:
    synthesizer, _ = sick
    chunks = list(begin(synthesizer, 7))
    streamed = np.concatenate([chunk.samples for chunk in chunks])
    whole = synthesizer.synthesize(SCRIPT, seed=7, max_frames=FRAMES)
    equal = np.array_equal(streamed, whole.samples)
    judge("F22", "streamed and whole are the same", f"{len(streamed)} samples", equal)
    per_frame = synthesizer.bundle.codec.samples_per_frame
    odd = len(streamed) % per_frame
    judge("F22", "duration is frames x samples per frame", f"{odd} over", odd == 0)
    starts = [chunk.first_sample for chunk in chunks[1:]]
    jumps = np.abs(np.diff(streamed))
    worst = max(float(jumps[start - 1]) for start in starts) if starts else 0.0
    usual = float(np.quantile(jumps, 0.999))
    judge("F22", "no click at a border", f"{worst:.3f}, usual {usual:.3f}", worst <= 3 * usual)
