"""A language model and a codec without weights, whose every output tells where it came from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from duologue.runtime.backbone.base import BackboneSpec
from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
    WindowConfig,
    WindowStep,
)
from duologue.runtime.core import ChannelSampling, FloatArray, IntArray, Logits

NUM_CHANNELS = 4
NUM_CODES = 16
SPEECH_START = 300
END_OF_SPEECH = SPEECH_START + NUM_CODES
TEXT_VOCAB = END_OF_SPEECH + 1
SAMPLES_PER_FRAME = 8

LM = LmConfig(
    vocab_sizes=(TEXT_VOCAB, *[NUM_CODES + 1] * (NUM_CHANNELS - 1)),
    delays=tuple(range(NUM_CHANNELS)),
    hidden_size=8,
    intermediate_size=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
)
TOKENS = TokenIds(
    speech_start=SPEECH_START,
    speech_stop=SPEECH_START + NUM_CODES,
    end_of_speech=END_OF_SPEECH,
    pad=0,
    speech_pad=NUM_CODES,
    eos=(0,),
)
CODEC = CodecConfig(
    kind="fake",
    input_rate_hz=100,
    sample_rate_hz=100,
    input_samples_per_frame=SAMPLES_PER_FRAME,
    samples_per_frame=SAMPLES_PER_FRAME,
    num_codebooks=NUM_CHANNELS,
    codebook_size=NUM_CODES,
    max_frames=64,
)
BUNDLE = Bundle(
    name="fake",
    lm=LM,
    tokens=TOKENS,
    prompt=PromptConfig("", "{system}{text}", ("<speaker1>", "<speaker2>")),
    sampling=(ChannelSampling(do_sample=False),) * NUM_CHANNELS,
    codec=CODEC,
    windows=WindowConfig((WindowStep(2, 2, 1), WindowStep(4, 3, 1)), crossfade_samples=4),
    limits=LimitsConfig(max_rows=400, max_slots=4),
)


@dataclass(frozen=True)
class FakePrefix:
    """A slot's state behind its first rows; a row counts as one byte."""

    num_rows: int
    digest: bytes
    rows: list[IntArray]

    @property
    def num_bytes(self) -> int:
        return self.num_rows


@dataclass
class FakeBackbone:
    """Its scores are a hash of all rows that a slot has seen, so no mix-up goes unnoticed.

    Attributes:
        max_slots: seats.
        end_chance: how often the end of speech wins.
        gate: when set, every decode step waits for it.
        fail_at: number of the decode step that raises.
    """

    max_slots: int = 4
    max_rows: int = 400
    end_chance: float = 0.05
    gate: threading.Semaphore | None = None
    fail_at: int | None = None
    num_decodes: int = 0
    released: list[int] = field(default_factory=list)
    _digests: dict[int, bytes] = field(default_factory=dict)
    _num_rows: dict[int, int] = field(default_factory=dict)
    _read_rows: dict[int, list[IntArray]] = field(default_factory=dict)

    @property
    def spec(self) -> BackboneSpec:
        return BackboneSpec(LM, "fake", "none", self.max_slots, self.max_rows, 1)

    def prefill(
        self, slot: int, input_ids: IntArray, start: int = 0, *, is_last: bool = True
    ) -> Logits | None:
        assert start == self._num_rows.get(slot, 0), "pieces of a prompt must follow each other"
        self._read(slot, input_ids)
        return self._logits([slot]) if is_last else None

    def decode(self, slots: Sequence[int], input_ids: IntArray) -> Logits:
        if self.gate is not None:
            self.gate.acquire()
        self.num_decodes += 1
        if self.num_decodes == self.fail_at:
            raise RuntimeError("a fault that nobody foresaw")
        assert len(set(slots)) == len(slots)
        for slot, row in zip(slots, input_ids, strict=True):
            assert self._num_rows.get(slot, 0) > 0, "decode of a slot without a prompt"
            self._read(slot, row[None])
        return self._logits(slots)

    def save_prefix(self, slot: int, num_rows: int) -> FakePrefix:
        assert self._num_rows[slot] >= num_rows
        digest = b""
        for row in self._read_rows[slot][:num_rows]:
            digest = hashlib.sha256(digest + row.tobytes()).digest()
        return FakePrefix(num_rows, digest, self._read_rows[slot][:num_rows])

    def load_prefix(self, slot: int, handle: FakePrefix) -> None:
        assert slot not in self._num_rows, "a prefix goes into an empty slot"
        self._num_rows[slot], self._digests[slot] = handle.num_rows, handle.digest
        self._read_rows[slot] = list(handle.rows)

    def release(self, slot: int) -> None:
        self._read_rows.pop(slot, None)
        self.released.append(slot)
        self._digests.pop(slot, None)
        self._num_rows.pop(slot, None)

    def close(self) -> None:
        self._digests.clear()

    def _read(self, slot: int, rows: IntArray) -> None:
        for row in rows:
            before = self._digests.get(slot, b"")
            self._digests[slot] = hashlib.sha256(before + row.tobytes()).digest()
            self._read_rows.setdefault(slot, []).append(row.copy())
        self._num_rows[slot] = self._num_rows.get(slot, 0) + len(rows)
        assert self._num_rows[slot] <= self.max_rows, "more rows than a slot holds"

    def _logits(self, slots: Sequence[int]) -> Logits:
        values = np.zeros((len(slots), LM.logit_offsets[-1]), dtype=np.float32)
        for row, slot in enumerate(slots):
            rng = np.random.default_rng(list(self._digests[slot]))
            values[row] = rng.normal(size=values.shape[1])
            values[row, SPEECH_START : SPEECH_START + NUM_CODES] += 20
            if rng.random() < self.end_chance:
                values[row, END_OF_SPEECH] += 40
        return Logits(values, LM.logit_offsets)


@dataclass
class FakeCodec:
    """Each frame becomes samples of its own, whatever stands around it."""

    fail_at: int | None = None
    num_decodes: int = 0

    @property
    def config(self) -> CodecConfig:
        return CODEC

    def encode(self, samples: FloatArray) -> IntArray:
        num_frames = len(samples) // SAMPLES_PER_FRAME
        return np.zeros((NUM_CHANNELS, num_frames), dtype=np.int64)

    def decode(self, codes: IntArray) -> FloatArray:
        self.num_decodes += 1
        if self.num_decodes == self.fail_at:
            raise RuntimeError("a codec that broke")
        return spell_out(codes)

    def close(self) -> None:
        pass


def spell_out(codes: IntArray) -> FloatArray:
    """Samples [B, L * SAMPLES_PER_FRAME] of codes [B, K, L]."""
    weights = NUM_CODES ** np.arange(NUM_CHANNELS)
    values = (codes * weights[:, None]).sum(axis=1) / NUM_CODES**NUM_CHANNELS
    return np.repeat(values.astype(np.float32), SAMPLES_PER_FRAME, axis=1)
