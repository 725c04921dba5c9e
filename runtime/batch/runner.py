# SPDX-License-Identifier: Apache-2.0
"""Speaks the lines of a batch file, many at a time."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.runtime.audio import to_int16
from duologue.runtime.batch.journal import Journal, replace_file
from duologue.runtime.batch.options import BatchOptions, ItemResult
from duologue.runtime.batch.whole import BatchVoices, decode_whole
from duologue.runtime.core import FloatArray, SamplingOverrides, SpeechRequest
from duologue.runtime.errors import DuologueError, EngineError
from duologue.runtime.stream import SpeechStream
from duologue.runtime.synthesizer import Synthesizer
from duologue.runtime.text.items import BatchItem, JsonlLine, parse_item, read_jsonl
from duologue.runtime.text.script import is_own_notation


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line that holds something, with its place among them."""

    index: int
    line: JsonlLine


@dataclass(frozen=True, slots=True)
class _Running:
    entry: BatchLine
    item: BatchItem
    key: str
    stream: SpeechStream
    started_at_s: float


def read_lines(path: Path, options: BatchOptions) -> list[BatchLine]:
    """The lines that a run is to speak.

    Raises:
        RequestError: the file cannot be read.
    """
    lines = [BatchLine(index, line) for index, line in enumerate(read_jsonl(path))]
    shard, num_shards = options.shard
    return lines[: options.max_samples][shard::num_shards]


class BatchRunner:
    """Speaks lines and writes files.

    Args:
        synthesizer: of the bundle.
        options: of the run.
    """

    def __init__(self, synthesizer: Synthesizer, options: BatchOptions) -> None:
        self._synthesizer = synthesizer
        self._options = options
        self._journal = Journal(options)
        self._voices = BatchVoices(synthesizer.codec, options.silence_s)
        description = synthesizer.bundle.to_json().encode()
        self._bundle_key = hashlib.sha256(description).hexdigest()
        options.output_dir.mkdir(parents=True, exist_ok=True)

    def run(self, lines: list[BatchLine]) -> Iterator[ItemResult]:
        """Speak lines; what an earlier run finished is not done again.

        Yields:
            One result per line, as they finish; none for lines that the time limit left out.
        """
        started_at_s = time.monotonic()
        finished = self._journal.finished()
        waiting = deque(lines)
        running: deque[_Running] = deque()
        max_running = self._synthesizer.backbone_spec.max_slots
        try:
            while waiting or running:
                if waiting and len(running) < max_running:
                    entry = waiting.popleft()
                    before = self._found(entry, finished)
                    if before is None and self._is_over(started_at_s):
                        continue
                    started = before or self._start(entry)
                    if isinstance(started, _Running):
                        running.append(started)
                    else:
                        yield started
                else:
                    yield self._finish(running[0])
                    running.popleft()
        finally:
            for left in running:
                left.stream.cancel()

    def _is_over(self, started_at_s: float) -> bool:
        limit_s = self._options.time_limit_s
        return limit_s is not None and time.monotonic() - started_at_s >= limit_s

    def _found(self, entry: BatchLine, finished: dict[int, ItemResult]) -> ItemResult | None:
        """The result of an earlier run, if it is of the same line and the same settings."""
        before = finished.get(entry.index)
        return before if before is not None and before.key == self._key_of(entry) else None

    def _key_of(self, entry: BatchLine) -> str | None:
        value = entry.line.value
        return None if value is None else self._options.key_of(value, self._bundle_key)

    def _start(self, entry: BatchLine) -> _Running | ItemResult:
        started_at_s = time.monotonic()
        key = self._key_of(entry)
        if entry.line.value is None or key is None:
            return self._failed(entry, str(entry.line.error))
        try:
            item = parse_item(entry.line.value, strict_reference=self._options.strict_reference)
            stream = self._synthesizer.submit(self._request(item))
        except DuologueError as error:
            return self._failed(entry, f"line {entry.line.number}: {error}", key)
        return _Running(entry, item, key, stream, started_at_s)

    def _request(self, item: BatchItem) -> SpeechRequest:
        options = self._options
        return SpeechRequest(
            script=item.text,
            voices=self._voices.voices_of(item),
            seed=options.seed,
            sampling=SamplingOverrides(greedy=options.greedy),
            normalization=options.normalization,
            text_frontend=options.text_frontend,
            verbatim=options.is_compared or is_own_notation(item.text),
            mode="one_pass" if options.is_compared else "auto",
            length_limit=options.length_limit,
            max_frames=self._max_frames(),
            codes_only=options.decode != "default",
        )

    def _max_frames(self) -> int | None:
        limit_s = self._options.max_audio_s
        frame_rate_hz = self._synthesizer.bundle.codec.frame_rate_hz
        return None if limit_s is None else max(1, math.floor(limit_s * frame_rate_hz))

    def _finish(self, running: _Running) -> ItemResult:
        entry, stream = running.entry, running.stream
        try:
            chunks = list(stream)
            samples = np.concatenate([chunk.samples for chunk in chunks])
            if self._options.decode != "default":
                samples = self._decode(running)
            if len(samples) == 0:
                raise EngineError("the model said nothing")
            file = self._write(entry.index, samples, stream)
        except DuologueError as error:
            return self._failed(entry, f"line {entry.line.number}: {error}", running.key)
        reason = chunks[-1].finish_reason
        result = ItemResult(
            index=entry.index,
            line=entry.line.number,
            key=running.key,
            file=file,
            duration_s=len(samples) / stream.sample_rate_hz,
            elapsed_s=time.monotonic() - running.started_at_s,
            num_frames=stream.codes.shape[1],
            finish_reason=None if reason is None else reason.value,
            seed=stream.seed,
            text=stream.script.canonical,
        )
        self._journal.append(result)
        return result

    def _decode(self, running: _Running) -> FloatArray:
        return decode_whole(
            self._synthesizer.codec,
            running.stream.codes,
            self._voices.decoder_context(running.item, fair=self._options.decode == "repaired"),
            loses_audio=self._options.decode == "reference",
        )

    def _write(self, index: int, samples: FloatArray, stream: SpeechStream) -> str:
        import soundfile

        options = self._options
        if options.save_codes:
            codes = io.BytesIO()
            np.save(codes, stream.codes.T)
            replace_file(
                options.output_dir / f"{options.prefix}{index}.codes.npy", codes.getvalue()
            )
        audio = io.BytesIO()
        soundfile.write(audio, to_int16(samples), stream.sample_rate_hz, format="WAV")
        name = f"{options.prefix}{index}.wav"
        replace_file(options.output_dir / name, audio.getvalue())
        return name

    def _failed(self, entry: BatchLine, error: str, key: str = "") -> ItemResult:
        result = ItemResult(entry.index, entry.line.number, key, error=error)
        self._journal.append(result)
        return result
