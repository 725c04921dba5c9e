# SPDX-License-Identifier: Apache-2.0
"""The hallway: the only place that sees all the rooms.

with Synthesizer.load("default") as synthesizer:
    speech = synthesizer.synthesize("[S1]Have you read it?[S2]Twice.")
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from duologue.models import resolve_bundle
from duologue.runtime.backbone.base import Backbone, BackboneSpec
from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import load_codec, near_device
from duologue.runtime.codec_worker import CodecWorker
from duologue.runtime.config import Bundle
from duologue.runtime.core import PcmChunk, Speech, SpeechRequest
from duologue.runtime.engine import Engine, EngineStats
from duologue.runtime.planner import MAX_SEED, RequestPlanner
from duologue.runtime.presets import PresetVoices, read_presets
from duologue.runtime.stream import SpeechStream
from duologue.runtime.text.tokenizer import TextTokenizer

_MAX_WAITING_PER_SLOT = 4
_MAX_BACKLOG_S = 600.0
_PREFILL_ROWS = 256
_CPU_PREFILL_ROWS = (16, 128)
"""Fewest and most: shorter pieces cost more in all (7 % at 128 rows instead of 256, 22 % at 64)."""
_CPU_PREFILL_FLOPS = 4e9
"""Of one piece: well below a frame's 80 ms on two cores."""
_CPU_CODEC_BATCH = 4
"""Windows decoded at once on a CPU, where rows gain nothing from each other: the next first window
need not wait for more."""
_PREFIX_SHARE = 1 / 16
"""Memory for prefixes that are kept, as a share of the KV cache."""
_ENGINES_WITH_PREFIXES = ("onnx", "torch")


def prefill_rows(spec: BackboneSpec) -> int:
    """Rows of a prompt that one step reads: so few that running streams do not notice."""
    if spec.engine != "onnx":
        return _PREFILL_ROWS
    flops_per_row = 2 * sum(math.prod(shape) for shape in lm_shapes(spec.lm).values())
    fewest, most = _CPU_PREFILL_ROWS
    rows = fewest
    while rows < most and 2 * rows * flops_per_row <= _CPU_PREFILL_FLOPS:
        rows *= 2
    return rows


class Synthesizer:
    """Turns scripts into audio, many at a time, in this process.

    ```python
    with Synthesizer.load("default") as synthesizer:
        speech = synthesizer.synthesize("[S1]Have you read it?[S2]Twice.")
    ```

    Args:
        bundle: description of the model.
        backbone: its language model.
        codec: its codec.
        tokenizer: its tokenizer.
        presets: its voices.
    """

    def __init__(
        self,
        bundle: Bundle,
        backbone: Backbone,
        codec: Codec,
        tokenizer: TextTokenizer,
        presets: PresetVoices | None = None,
    ) -> None:
        self.bundle = bundle
        self.presets = presets or PresetVoices()
        self._backbone = backbone
        self._codec = codec
        self._planner = RequestPlanner(bundle, tokenizer, backbone.spec.max_rows)
        spec = backbone.spec
        max_slots = spec.max_slots
        is_cpu = spec.engine == "onnx"
        self._codec_worker = CodecWorker(codec, _CPU_CODEC_BATCH if is_cpu else max_slots)
        keeps_prefixes = spec.engine in _ENGINES_WITH_PREFIXES
        self._engine = Engine(
            backbone,
            self._codec_worker,
            max_waiting=max_slots * _MAX_WAITING_PER_SLOT,
            max_prefill_rows=prefill_rows(spec),
            prefix_bytes=int(_PREFIX_SHARE * spec.kv_bytes) if keeps_prefixes else 0,
        )

    @classmethod
    def load(
        cls,
        bundle: str | Path = "default",
        *,
        engine: str = "auto",
        max_slots: int | None = None,
        codec: Codec | None = None,
    ) -> Synthesizer:
        """Load a bundle; its files are read to their end once, to compare their hashes.

        Args:
            bundle: "default" or a directory.
            engine: "auto", "torch", "onnx" or "trtllm".
            max_slots: sequences that run at the same time; None takes the bundle's number.
            codec: used instead of the bundle's own, e.g. one that runs elsewhere. The bundle's own
                runs on the GPU of the language model where it can.

        Raises:
            ConfigError: no such bundle, or its files do not fit its description.
            EngineUnavailableError: the engine cannot run here.
        """
        directory = resolve_bundle(bundle)
        description = verify_bundle(directory, hashes=True)
        presets = read_presets(description, directory)
        tokenizer = TextTokenizer.from_file(directory / "tokenizer.json")
        backbone = load_backbone(description, directory, engine=engine, max_slots=max_slots)
        try:
            device = near_device(description, backbone.spec.engine)
            codec = codec or load_codec(description, directory, device=device)
        except BaseException:
            # Other ranks would wait for this one.
            backbone.close()
            raise
        return cls(description, backbone, codec, tokenizer, presets)

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio."""
        return self.bundle.codec.sample_rate_hz

    @property
    def backbone_spec(self) -> BackboneSpec:
        """Engine, precision, slots and memory of the language model."""
        return self._backbone.spec

    @property
    def codec(self) -> Codec:
        """For those who encode voices or decode codes themselves."""
        return self._codec

    @property
    def stats(self) -> EngineStats:
        """What runs at this moment."""
        return self._engine.stats

    def submit(self, request: SpeechRequest) -> SpeechStream:
        """Begin to speak; returns at once.

        Args:
            request: what is wanted.

        Raises:
            ScriptError: the script cannot be read.
            VoiceError: a voice does not fit the model, or no voice of the bundle has the name.
            RequestError: a value is out of range.
            PromptTooLongError: prompt and speech do not fit into the context.
            CapacityError: every slot is taken and the queue is full.
        """
        submitted_at_s, deadline_s = time.monotonic(), request.deadline_s
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        voices = self.presets.resolve(request.voice_ids, request.voices)
        request = dataclasses.replace(request, voices=voices, voice_ids={})
        script = self._planner.read(request)
        stream = SpeechStream(
            script=script,
            seed=seed,
            sample_rate_hz=self.sample_rate_hz,
            max_ahead_s=request.max_ahead_s,
            max_backlog_samples=int(_MAX_BACKLOG_S * self.sample_rate_hz),
            deadline_at_s=None if deadline_s is None else submitted_at_s + deadline_s,
        )
        job = self._planner.start(request, stream)
        self._engine.submit(job)
        return stream

    def stream(self, script: str, **options: Any) -> Iterator[PcmChunk]:
        """Speak a script, chunk by chunk; leaving the iterator early cancels the request.

        Args:
            script: in any notation that the parser knows.
            options: fields of `SpeechRequest`.

        Yields:
            Chunks of audio in order.
        """
        speech_stream = self.submit(SpeechRequest(script, **options))
        num_samples = 0
        try:
            for chunk in speech_stream:
                yield chunk
                num_samples += len(chunk.samples)
                speech_stream.acknowledge(num_samples)
        finally:
            speech_stream.cancel()

    def synthesize(self, script: str, **options: Any) -> Speech:
        """Speak a whole script; the samples are those that `stream` gives.

        Args:
            script: in any notation that the parser knows.
            options: fields of `SpeechRequest`.
        """
        chunks = list(self.stream(script, **options))
        last = chunks[-1]
        assert last.finish_reason is not None
        samples = np.concatenate([chunk.samples for chunk in chunks])
        return Speech(samples, self.sample_rate_hz, last.finish_reason, last.turn_times)

    def close(self) -> None:
        """Stop; requests that still run end with `EngineError`."""
        self._engine.close()
        self._codec_worker.close()
        self._backbone.close()
        self._codec.close()

    def __enter__(self) -> Synthesizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
