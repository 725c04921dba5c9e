# SPDX-License-Identifier: Apache-2.0
r"""One training example: the rows that the model reads, and what it is to learn of them.

    rows      channel 0              other channels    learnt
    header    style and text tags    speech pad        nothing
    text      the transcript         speech pad        nothing
    bridge    end of text, begin of speech             nothing
    audio     speech_start + c0      c1 .. c(K-1)      all channels
    end       end of speech          speech pad        channel 0

Source: OpenMOSS/MOSS-TTSD v0.7, `finetune/data_preprocess.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from duologue.finetune.errors import DataError
from duologue.runtime.config import PromptConfig, TokenIds
from duologue.runtime.core import IntArray
from duologue.runtime.text.pinyin import read_aloud
from duologue.runtime.text.prompt import text_rows, voice_rows
from duologue.runtime.text.tokenizer import Piece, TextTokenizer

IGNORED = -100
"""The label of what is not to be learnt."""
_SPEAKER_TAG = re.compile(r"\[S(\d+)\]")
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRow:
    """One example before the delay is applied.

    Attributes:
        input_ids: [T, K].
        labels: [T, K], `IGNORED` where nothing is learnt.
        voices: [T], number of the voice that speaks a row, `IGNORED` where that is unknown; None
            where the data does not say.
    """

    input_ids: IntArray
    labels: IntArray
    voices: IntArray | None = None


def encode_transcript(text: str, prompt: PromptConfig, tokenizer: TextTokenizer) -> list[int]:
    """Ids of the whole text part: header, transcript, bridge.

    Each of the three is encoded on its own, as the model's makers did.

    Args:
        text: turns behind their tags: `[S1]...[S2]...`.
        prompt: template and speaker tokens.
        tokenizer: of the model.

    Raises:
        DataError: a tag of a speaker that the model does not know.
    """
    before, after = (
        tokenizer.split_template(part.replace("{system}", prompt.system))
        for part in prompt.template.split("{text}")
    )
    spoken: list[Piece] = []
    # The pattern's group makes every second part the number of a speaker.
    for place, part in enumerate(_SPEAKER_TAG.split(text)):
        if place % 2:
            spoken.append(tokenizer.token_id(_speaker_token(part, prompt, text)))
        elif part:
            spoken.append(read_aloud(part, prompt.reading))
    parts = (before, spoken, after)
    return [token_id for part in parts for token_id in tokenizer.encode_prompt(part)]


def build_row(text_ids: list[int], codes: IntArray, tokens: TokenIds) -> IntArray:
    """Rows of an example.

    Args:
        text_ids: see `encode_transcript`.
        codes: aligned codes [K, frames], the reference audio's first where there is one.
        tokens: special ids of the model.

    Returns:
        [len(text_ids) + frames + 1, K].

    Raises:
        DataError: no frame, or codes that the model has no ids for.
    """
    num_channels, num_frames = codes.shape
    size = tokens.speech_stop - tokens.speech_start
    if num_frames == 0 or codes.min() < 0 or codes.max() >= size:
        raise DataError(
            f"the codes have the shape {list(codes.shape)} and the range "
            f"{_range(codes)}; allowed: 1 frame or more, codes from 0 to {size - 1}"
        )
    end = text_rows([tokens.end_of_speech], tokens, num_channels)
    return np.concatenate(
        [text_rows(text_ids, tokens, num_channels), voice_rows(codes, tokens), end]
    )


def label_row(
    input_ids: IntArray,
    num_frames: int,
    *,
    has_end: bool = True,
    voices: IntArray | None = None,
) -> TrainingRow:
    """Add the labels, which follow from where the audio stands.

    Args:
        input_ids: [T, K], whose last row says end of speech.
        num_frames: audio rows before that.
        has_end: False for an example that breaks off: its last row is audio.
        voices: see `TrainingRow`.
    """
    labels = np.full_like(input_ids, IGNORED)
    if not has_end:
        labels[-num_frames:] = input_ids[-num_frames:]
        return TrainingRow(input_ids, labels, voices)
    labels[-1 - num_frames : -1] = input_ids[-1 - num_frames : -1]
    labels[-1, 0] = input_ids[-1, 0]
    return TrainingRow(input_ids, labels, voices)


def count_frames(row: TrainingRow) -> int:
    """How many audio rows an example has: those with a label in every channel."""
    return int((row.labels != IGNORED).all(axis=1).sum())


def _speaker_token(number: str, prompt: PromptConfig, text: str) -> str:
    # Python refuses to read numbers of thousands of digits.
    speaker = int(number) if len(number) <= _MAX_DIGITS else 0
    if not 1 <= speaker <= prompt.max_speakers:
        raise DataError(
            f"[S{number[:_MAX_DIGITS]}] in {text[:60]!r}; allowed: [S1] to [S{prompt.max_speakers}]"
        )
    return prompt.speaker_tokens[speaker - 1]


def _range(codes: IntArray) -> str:
    return f"{codes.min()} to {codes.max()}" if codes.size else "of nothing"
