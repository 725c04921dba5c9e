# SPDX-License-Identifier: Apache-2.0
"""From recordings and transcripts to a dataset: encoded once, in parallel, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from duologue.finetune.data_files import read_array
from duologue.finetune.dataset import Example, shard_name, write_description
from duologue.finetune.errors import DataError
from duologue.finetune.items import Skipped, TrainingItem, read_item
from duologue.finetune.prepare_plan import NumberedLine, begin, forget, read_lines
from duologue.finetune.prepare_shards import ShardReport, finish_shard
from duologue.finetune.rows import build_row, encode_transcript
from duologue.runtime.bundle_files import describe_file
from duologue.runtime.codec.base import Codec
from duologue.runtime.config import PromptConfig, TokenIds
from duologue.runtime.core import IntArray, Normalization
from duologue.runtime.errors import DuologueError
from duologue.runtime.text.normalize import normalize_text
from duologue.runtime.text.tokenizer import TextTokenizer
from duologue.runtime.voices import ReferenceAudio, to_codec_input

Encode = Callable[[Path], IntArray]


@dataclass(frozen=True, slots=True, eq=False)
class TextSide:
    """What turns a transcript into ids.

    Attributes:
        tokens, prompt, tokenizer: of the model that is to be trained.
        num_channels: K.
        rules: text rules applied to every transcript.
        tokenizer_sha256: of the tokenizer's file, where it is known.
    """

    tokens: TokenIds
    prompt: PromptConfig
    tokenizer: TextTokenizer
    num_channels: int
    rules: Normalization = "none"
    tokenizer_sha256: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """All that settles the ids of a transcript, as JSON has it."""
        tokens, prompt = self.tokens, self.prompt
        hashed = (
            {} if self.tokenizer_sha256 is None else {"tokenizer_sha256": self.tokenizer_sha256}
        )
        return {
            "rules": self.rules,
            "num_channels": self.num_channels,
            "speech_start": tokens.speech_start,
            "speech_stop": tokens.speech_stop,
            "end_of_speech": tokens.end_of_speech,
            "pad": tokens.pad,
            "speech_pad": tokens.speech_pad,
            "system": prompt.system,
            "template": prompt.template,
            "speaker_tokens": list(prompt.speaker_tokens),
            "reading": prompt.reading,
            **hashed,
        }


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What came of it.

    Attributes:
        num_examples: new ones, made by this call.
        num_resumed_shards: shards that an earlier call had written.
        skipped: lines that are left out, of all shards.
    """

    num_examples: int
    num_resumed_shards: int
    skipped: tuple[Skipped, ...]


def prepare(
    jsonl: Path,
    out_dir: Path,
    text_side: TextSide,
    encode: Encode,
    *,
    source: str,
    source_sha256: str | None = None,
    num_workers: int = 1,
    shard_size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Make a dataset of a JSONL file.

    A call that was broken off goes on with the first shard that is not finished. Lines that an
    earlier call has left out are tried again.

    Args:
        jsonl: see `items`; paths are relative to its folder.
        out_dir: made if it does not exist.
        text_side: of the model.
        encode: recording -> codes [K, T]; called from several threads.
        source: what encodes, e.g. the bundle's name; data of one codec is not mixed with
            another's.
        source_sha256: of the codec's weights, where they are known: then the codec may have
            another name.
        num_workers: recordings that are encoded at the same time.
        shard_size: lines per shard.
        on_progress: told how many lines of how many are done.

    Raises:
        DataError: the file is missing or empty, no line is fit, or `out_dir` holds the
            beginnings of another dataset, or is damaged.
    """
    lines = read_lines(jsonl)
    out_dir.mkdir(parents=True, exist_ok=True)
    facts = {
        "jsonl_sha256": describe_file(jsonl)["sha256"],
        "codec": source,
        **({} if source_sha256 is None else {"codec_sha256": source_sha256}),
        **text_side.facts,
        "shard_size": shard_size,
    }
    begin(out_dir, facts)
    shards = [shard_name(index) for index in range(-(-len(lines) // shard_size))]
    job = _LineJob(text_side, encode, jsonl.parent)
    reports: list[ShardReport] = []
    with ThreadPoolExecutor(num_workers) as pool:
        for start, name in zip(range(0, len(lines), shard_size), shards, strict=True):
            part = lines[start : start + shard_size]
            report = finish_shard(out_dir, name, part, lambda some: list(pool.map(job, some)))
            reports.append(report)
            if on_progress is not None:
                on_progress(min(start + shard_size, len(lines)), len(lines))
    skipped = tuple(chain.from_iterable(report.skipped for report in reports))
    if not any(report.num_examples for report in reports):
        forget(out_dir)
        raise DataError(f"no line of {jsonl} is fit: line {skipped[0].line}: {skipped[0].reason}")
    write_description(out_dir, shards, facts)
    num_resumed = sum(report.is_resumed for report in reports)
    return PrepareReport(sum(report.num_new for report in reports), num_resumed, skipped)


def file_encoder(codec: Codec | None) -> Encode:
    """Encode recordings by a codec; codes in `.npy` files are taken as they are.

    Args:
        codec: None allows codes only.
    """

    def encode(path: Path) -> IntArray:
        if path.suffix == ".npy":
            return _read_codes(path)
        if codec is None:
            raise DataError(f"{path} is audio, and no codec is given; allowed: codes in .npy")
        samples = to_codec_input([_read_audio(path)], codec.config.input_rate_hz)
        return codec.encode(samples)

    return encode


def make_example(item: TrainingItem, text_side: TextSide, encode: Encode) -> Example:
    """Encode one item.

    Raises:
        DuologueError: audio, codes or transcript cannot be used.
    """
    parts = [encode(path) for path in item.audio_paths]
    for path, part in zip(item.audio_paths, parts, strict=True):
        if len(part) != text_side.num_channels:
            wanted = text_side.num_channels
            raise DataError(f"{path.name} has {len(part)} codebooks; wanted: {wanted}")
    codes = np.concatenate(parts, axis=1)
    text = normalize_text(item.text, text_side.rules)
    ids = encode_transcript(text, text_side.prompt, text_side.tokenizer)
    return Example(build_row(ids, codes, text_side.tokens), codes.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class _LineJob:
    """Turns a numbered line into an example, or says why not."""

    text_side: TextSide
    encode: Encode
    base_dir: Path

    def __call__(self, numbered: NumberedLine) -> Example | Skipped:
        number, line = numbered
        try:
            return make_example(read_item(line, self.base_dir), self.text_side, self.encode)
        except DuologueError as error:
            return Skipped(number, str(error))
        except Exception as error:  # a codec may raise anything; the other lines go on
            return Skipped(number, f"{type(error).__name__}: {error}")


def _read_codes(path: Path) -> IntArray:
    codes = read_array(path)
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"{path} holds {codes.dtype} {list(codes.shape)}; wanted: codes [K, T]")
    aligned: IntArray = codes.astype(np.int64)
    return aligned


def _read_audio(path: Path) -> ReferenceAudio:
    import soundfile

    try:
        samples, rate_hz = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    return ReferenceAudio(samples, int(rate_hz))
