# SPDX-License-Identifier: Apache-2.0
"""From recordings and transcripts to a dataset: encoded once, in parallel, and resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.finetune.dataset import (
    Example,
    has_shard,
    shard_name,
    write_description,
    write_shard,
)
from duologue.finetune.errors import DataError
from duologue.finetune.items import Skipped, TrainingItem, read_item
from duologue.finetune.rows import build_row, encode_transcript
from duologue.runtime.codec.base import Codec
from duologue.runtime.config import PromptConfig, TokenIds
from duologue.runtime.core import IntArray, Normalization
from duologue.runtime.errors import DuologueError
from duologue.runtime.text.normalize import normalize_text
from duologue.runtime.text.tokenizer import TextTokenizer
from duologue.runtime.voices import ReferenceAudio, to_codec_input

PLAN_FILE = "prepare.json"
Encode = Callable[[Path], IntArray]


@dataclass(frozen=True, slots=True, eq=False)
class TextSide:
    """What turns a transcript into ids.

    Attributes:
        tokens, prompt, tokenizer: of the model that is to be trained.
        num_channels: K.
        rules: text rules applied to every transcript.
    """

    tokens: TokenIds
    prompt: PromptConfig
    tokenizer: TextTokenizer
    num_channels: int
    rules: Normalization = "none"


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What came of it.

    Attributes:
        num_examples: written by this call.
        num_resumed_shards: shards that an earlier call had finished.
        skipped: lines that were left out by this call.
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
    num_workers: int = 1,
    shard_size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Make a dataset of a JSONL file.

    A call that was broken off goes on with the first shard that is not finished.

    Args:
        jsonl: see `items`; paths are relative to its folder.
        out_dir: made if it does not exist.
        text_side: of the model.
        encode: recording -> codes [K, T]; called from several threads.
        source: what encodes, e.g. the bundle's name; data of one codec is not mixed with
            another's.
        num_workers: recordings that are encoded at the same time.
        shard_size: lines per shard.
        on_progress: told how many lines of how many are done.

    Raises:
        DataError: the file is missing or empty, no line is fit, or `out_dir` holds the
            beginnings of another dataset.
    """
    lines = _read_lines(jsonl)
    out_dir.mkdir(parents=True, exist_ok=True)
    facts = _facts(jsonl, text_side, source, shard_size)
    _check_plan(out_dir, facts)
    shards = [shard_name(i) for i in range(-(-len(lines) // shard_size))]
    num_examples = num_resumed = 0
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(num_workers) as pool:
        for index, name in enumerate(shards):
            start = index * shard_size
            if has_shard(out_dir, name):
                num_resumed += 1
            else:
                job = _LineJob(text_side, encode, jsonl.parent)
                results = list(pool.map(job, lines[start : start + shard_size]))
                examples = [result for result in results if isinstance(result, Example)]
                write_shard(out_dir, name, examples)
                num_examples += len(examples)
                skipped += [result for result in results if isinstance(result, Skipped)]
            if on_progress is not None:
                on_progress(min(start + shard_size, len(lines)), len(lines))
    if num_examples == 0 and num_resumed == 0:
        raise DataError(f"no line of {jsonl} is fit: line {skipped[0].line}: {skipped[0].reason}")
    write_description(out_dir, shards, facts)
    return PrepareReport(num_examples, num_resumed, tuple(skipped))


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
    codes = np.concatenate([encode(path) for path in item.audio_paths], axis=1)
    if len(codes) != text_side.num_channels:
        raise DataError(f"{len(codes)} codebooks; wanted: {text_side.num_channels}")
    text = normalize_text(item.text, text_side.rules)
    ids = encode_transcript(text, text_side.prompt, text_side.tokenizer)
    return Example(build_row(ids, codes, text_side.tokens), codes.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class _LineJob:
    """Turns a numbered line into an example, or says why not."""

    text_side: TextSide
    encode: Encode
    base_dir: Path

    def __call__(self, numbered: tuple[int, str]) -> Example | Skipped:
        number, line = numbered
        try:
            return make_example(read_item(line, self.base_dir), self.text_side, self.encode)
        except DuologueError as error:
            return Skipped(number, str(error))


def _read_lines(jsonl: Path) -> Sequence[tuple[int, str]]:
    if not jsonl.is_file():
        raise DataError(f"there is no file {jsonl}")
    text = jsonl.read_text(encoding="utf-8")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{jsonl} is empty")
    return lines


def _read_codes(path: Path) -> IntArray:
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
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


def _facts(jsonl: Path, text_side: TextSide, source: str, shard_size: int) -> dict[str, Any]:
    tokens = text_side.tokens
    return {
        "jsonl_sha256": hashlib.sha256(jsonl.read_bytes()).hexdigest(),
        "codec": source,
        "rules": text_side.rules,
        "num_channels": text_side.num_channels,
        "speech_start": tokens.speech_start,
        "end_of_speech": tokens.end_of_speech,
        "shard_size": shard_size,
    }


def _check_plan(out_dir: Path, facts: dict[str, Any]) -> None:
    """Write down what the folder is for, or compare with what it was begun for."""
    path = out_dir / PLAN_FILE
    if not path.is_file():
        path.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        return
    begun = json.loads(path.read_text(encoding="utf-8"))
    differing = sorted(name for name in facts if begun.get(name) != facts[name])
    if differing:
        raise DataError(
            f"{out_dir} was begun with another {', '.join(differing)}; allowed: a new folder, or "
            f"the same settings (see {PLAN_FILE} there)"
        )
