# SPDX-License-Identifier: Apache-2.0
"""Voices of batch items, and decoding a whole dialogue with the voice in front."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.reference_windows import (
    REFERENCE_S,
    decode_windowed,
    decode_with_reference,
    reference_codes,
)
from duologue.runtime.core import FloatArray, IntArray, Voice
from duologue.runtime.text.items import BatchItem
from duologue.runtime.voices import (
    ReferenceAudio,
    encode_voice,
    read_reference,
    to_codec_input,
)

_MAX_CACHED = 64


class BatchVoices:
    """Reads and encodes the recordings of items; the same recordings are encoded once.

    Args:
        codec: of the bundle.
        silence_s: seconds of silence behind the recordings.
    """

    def __init__(self, codec: Codec, silence_s: float) -> None:
        self._codec = codec
        self._silence_s = silence_s
        self._codes: dict[tuple[object, ...], IntArray] = {}

    def voices_of(self, item: BatchItem) -> dict[int, Voice]:
        """One voice that holds all of an item's recordings, as the model was trained.

        Raises:
            VoiceError: a recording is missing, is no audio, or cannot be a voice.
        """
        if not item.prompts:
            return {}
        key = _identity(item)
        if key not in self._codes:
            while len(self._codes) >= _MAX_CACHED:
                del self._codes[next(iter(self._codes))]
            voice = encode_voice(self._codec, _recordings(item), silence_s=self._silence_s)
            self._codes[key] = voice.codes
        return {item.prompts[0].speaker or 1: Voice(self._codes[key], item.prompt_text)}

    def decoder_context(self, item: BatchItem, *, fair: bool) -> IntArray | None:
        """Codes [K, 20 s] to stand in front of each decoded window, or None without a voice.

        Args:
            item: whose recordings are meant.
            fair: give each speaker a share of the 20 s; the reference takes the first 20 s of
                all recordings, in which the second speaker may not be heard.
        """
        if not item.prompts:
            return None
        rate_hz = self._codec.config.input_rate_hz
        recordings = [to_codec_input([audio], rate_hz) for audio in _recordings(item)]
        if fair:
            recordings = fair_shares(recordings, int(REFERENCE_S * rate_hz))
        return reference_codes(self._codec, np.concatenate(recordings))


def fair_shares(recordings: list[FloatArray], num_samples: int) -> list[FloatArray]:
    """Cut recordings so that together they fit, taking from the longest first.

    >>> [len(r) for r in fair_shares([np.zeros(9), np.zeros(30)], 20)]
    [9, 11]
    >>> [len(r) for r in fair_shares([np.zeros(30), np.zeros(30)], 20)]
    [10, 10]
    """
    left = num_samples
    cut = dict.fromkeys(range(len(recordings)), 0)
    by_length = sorted(cut, key=lambda place: len(recordings[place]))
    for done, place in enumerate(by_length):
        cut[place] = min(len(recordings[place]), left // (len(recordings) - done))
        left -= cut[place]
    return [recording[: cut[place]] for place, recording in enumerate(recordings)]


def decode_whole(
    codec: Codec, codes: IntArray, context: IntArray | None, *, loses_audio: bool
) -> FloatArray:
    """Decode a finished dialogue [K, T] in the reference's windows."""
    if context is None:
        return decode_windowed(codec, codes)
    return decode_with_reference(codec, codes, context, loses_audio=loses_audio)


def _recordings(item: BatchItem) -> list[ReferenceAudio]:
    return [read_reference(Path(prompt.path), prompt.transcript) for prompt in item.prompts]


def _identity(item: BatchItem) -> tuple[object, ...]:
    """Tells recordings apart, also when a file was replaced under its name."""
    stats = [Path(prompt.path) for prompt in item.prompts]
    return tuple(
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        if path.is_file()
        else (str(path), None, None)
        for path in stats
    )
