# SPDX-License-Identifier: Apache-2.0
"""A request's tensors to the `SpeechRequest` that the synthesizer takes."""

from __future__ import annotations

import typing

import numpy as np

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.runtime.config import Bundle
from duologue.runtime.core import (
    IntArray,
    Mode,
    Normalization,
    SamplingOverrides,
    SpeechRequest,
    TextFrontend,
    Voice,
)
from duologue.runtime.errors import RequestError, ScriptError, VoiceError
from duologue.runtime.serving.sampling import read_sampling
from duologue.runtime.serving.tensors import RequestTensors


def read_request(tensors: RequestTensors, bundle: Bundle) -> SpeechRequest:
    """Read what a caller wants said.

    Args:
        tensors: of the request.
        bundle: its limits are kept here already where they protect this process.

    Raises:
        RequestError: a tensor is missing, of the wrong type or shape, or out of range.
        ScriptError: the script is longer than the bundle allows.
        VoiceError: the codes of a voice cannot be used.
    """
    sampling = tensors.text(contract.SAMPLING)
    return SpeechRequest(
        script=_read_script(tensors, bundle.limits.max_script_bytes),
        voices=_read_voices(tensors, bundle),
        voice_ids=_read_voice_ids(tensors),
        seed=tensors.whole(contract.SEED, 0),
        sampling=SamplingOverrides() if sampling is None else read_sampling(sampling),
        normalization=typing.cast(
            "Normalization",
            _read_choice(tensors, contract.NORMALIZATION, typing.get_args(Normalization)),
        ),
        text_frontend=typing.cast(
            "TextFrontend",
            _read_choice(tensors, contract.TEXT_FRONTEND, typing.get_args(TextFrontend)),
        ),
        mode=typing.cast(
            "Mode", _read_choice(tensors, contract.MODE, typing.get_args(Mode), default="auto")
        ),
        max_frames=tensors.whole(contract.MAX_FRAMES, 1),
        deadline_s=tensors.seconds(contract.DEADLINE_S),
        max_ahead_s=tensors.seconds(contract.MAX_AHEAD_S),
    )


def _read_script(tensors: RequestTensors, max_bytes: int) -> str:
    if contract.ACK_STREAM_ID in tensors or contract.ACK_SAMPLES in tensors:
        raise RequestError(
            "the request holds SCRIPT and an acknowledgement; allowed: one of the two"
        )
    array = tensors.array(contract.SCRIPT)
    if array is None:
        raise RequestError("SCRIPT is missing; allowed: one string")
    # Before anything looks at the text: reading 10 MB would hold up the neighbours.
    if len(array[0]) > max_bytes:
        raise ScriptError(f"the script has {len(array[0])} bytes; allowed: at most {max_bytes}")
    script = tensors.text(contract.SCRIPT)
    assert script is not None
    return script


def _read_choice(
    tensors: RequestTensors, spec: TensorSpec, allowed: tuple[str, ...], default: str = "none"
) -> str:
    """The value of a tensor with fixed choices; left out or empty means the default."""
    value = tensors.text(spec) or default
    if value not in allowed:
        raise RequestError(f"{spec.name} is {value[:80]!r}; allowed: {', '.join(allowed)}")
    return value


def _read_voice_ids(tensors: RequestTensors) -> dict[int, str]:
    """Names of voices; whether the bundle has them is found out by the synthesizer."""
    names = tensors.texts(contract.VOICE_IDS) or []
    return {speaker: name for speaker, name in enumerate(names, start=1) if name}


def _read_voices(tensors: RequestTensors, bundle: Bundle) -> dict[int, Voice]:
    codes = tensors.array(contract.VOICE_CODES)
    lengths = tensors.array(contract.VOICE_LENGTHS)
    transcripts = tensors.texts(contract.VOICE_TRANSCRIPTS)
    if codes is None:
        if lengths is not None or transcripts is not None:
            raise RequestError("VOICE_LENGTHS and VOICE_TRANSCRIPTS need VOICE_CODES")
        return {}
    if lengths is None:
        raise RequestError("VOICE_CODES needs VOICE_LENGTHS: frames per speaker")
    frames = [int(length) for length in lengths]
    words = [""] * len(frames) if transcripts is None else transcripts
    _check_voices(codes.astype(np.int64), frames, words, bundle)
    return _split_voices(codes.astype(np.int64), frames, words)


def _check_voices(codes: IntArray, frames: list[int], words: list[str], bundle: Bundle) -> None:
    """Hold codes [K, sum T], T and transcript per speaker to each other and to the bundle."""
    codebooks, size = bundle.codec.num_codebooks, bundle.codec.codebook_size
    if len(frames) > bundle.prompt.max_speakers:
        raise RequestError(
            f"VOICE_LENGTHS names {len(frames)} speakers; allowed: at most "
            f"{bundle.prompt.max_speakers}"
        )
    if len(words) != len(frames):
        raise RequestError(
            f"VOICE_TRANSCRIPTS has {len(words)} entries; allowed: {len(frames)}, as VOICE_LENGTHS"
        )
    if min(frames, default=0) < 0 or sum(frames) != codes.shape[1]:
        raise RequestError(
            f"VOICE_LENGTHS is {frames}; allowed: numbers from 0 on whose sum is the "
            f"{codes.shape[1]} frames of VOICE_CODES"
        )
    if codes.shape[0] != codebooks:
        raise RequestError(f"VOICE_CODES has {codes.shape[0]} rows; allowed: {codebooks} codebooks")
    if codes.size and not (codes.min() >= 0 and codes.max() < size):
        raise VoiceError(
            f"VOICE_CODES holds codes from {codes.min()} to {codes.max()}; allowed: 0 to {size - 1}"
        )


def _split_voices(codes: IntArray, frames: list[int], words: list[str]) -> dict[int, Voice]:
    voices: dict[int, Voice] = {}
    start = 0
    for speaker, (length, transcript) in enumerate(zip(frames, words, strict=True), start=1):
        if length > 0:
            voices[speaker] = Voice(codes[:, start : start + length].copy(), transcript)
        start += length
    return voices
