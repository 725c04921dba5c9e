# SPDX-License-Identifier: Apache-2.0
"""Voices: reference audio and its transcript become codes that stand in front of a dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.runtime.audio import (
    MAX_CHANNELS,
    MAX_REFERENCE_S,
    mono,
    resample_sinc_hann,
    validate_reference_audio,
)
from duologue.runtime.codec.base import Codec
from duologue.runtime.core import FloatArray, Voice
from duologue.runtime.errors import EngineUnavailableError, VoiceError


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceAudio:
    """Audio as it was read from a file.

    Attributes:
        samples: float32 [N] or [N, channels].
        sample_rate_hz: of `samples`.
        transcript: what is said in it; tags `[S1]`, `[S2]` where several speakers are heard.
    """

    samples: FloatArray
    sample_rate_hz: int
    transcript: str = ""


def read_reference(path: Path, transcript: str = "") -> ReferenceAudio:
    """Read an audio file that is to be a voice.

    Args:
        path: any format that libsndfile knows.
        transcript: what is said in it.

    Raises:
        VoiceError: no such file, no audio, or audio that cannot be a voice; says what was got
            and what is allowed.
        EngineUnavailableError: the package `soundfile` is missing.
    """
    try:
        import soundfile
    except ImportError as error:
        raise EngineUnavailableError(
            "reading audio needs soundfile: pip install 'duologue[client]'"
        ) from error
    if not path.is_file():
        raise VoiceError(f"there is no audio file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            # Three hours are refused before they fill the memory.
            duration_s = file.frames / file.samplerate
            if file.channels > MAX_CHANNELS or duration_s > MAX_REFERENCE_S:
                raise VoiceError(
                    f"{path.name} has {file.channels} channels and lasts {duration_s:.1f} s; "
                    f"allowed: 1 to {MAX_CHANNELS} channels, at most {MAX_REFERENCE_S:g} s"
                )
            samples: FloatArray = file.read(dtype="float32")
            rate_hz = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise VoiceError(f"{path.name} cannot be read as audio: {error.error_string}") from error
    try:
        validate_reference_audio(samples, rate_hz)
    except VoiceError as error:
        raise VoiceError(f"{path.name}: {error}") from error
    return ReferenceAudio(samples, rate_hz, transcript)


def to_codec_input(references: Sequence[ReferenceAudio], rate_hz: int) -> FloatArray:
    """Resample, mix down and join reference audio as the reference model does.

    Args:
        references: in the order of their speakers; joined without a gap.
        rate_hz: input rate of the codec.

    Returns:
        Mono [N] at `rate_hz`.
    """
    return np.concatenate([_resampled(reference, rate_hz) for reference in references])


def encode_voice(
    codec: Codec, references: Sequence[ReferenceAudio], *, silence_s: float = 0.0
) -> Voice:
    """Encode reference audio as one voice.

    Several speakers' audio is encoded in one piece, because the codec hears across the seam
    and the model was trained on it (OpenMOSS/MOSS-TTSD v0.7, `process_inputs`).

    Args:
        codec: of the bundle that will speak.
        references: in the order of their speakers.
        silence_s: seconds of silence behind the audio; a voice that is cut in mid-word is
            otherwise continued.

    Returns:
        Codes and the transcripts, joined in the same order.

    Raises:
        VoiceError: the audio is shorter than one frame.
    """
    rate_hz = codec.config.input_rate_hz
    silence = np.zeros(int(silence_s * rate_hz), dtype=np.float32)
    samples = np.concatenate([to_codec_input(references, rate_hz), silence])
    codes = codec.encode(samples)
    if codes.shape[1] == 0:
        shortest_s = codec.config.input_samples_per_frame / rate_hz
        raise VoiceError(
            f"the reference audio lasts {len(samples) / rate_hz:.3f} s; "
            f"allowed: at least {shortest_s:g} s"
        )
    return Voice(codes, "".join(reference.transcript for reference in references))


def _resampled(reference: ReferenceAudio, rate_hz: int) -> FloatArray:
    samples = reference.samples
    columns = samples[:, None] if samples.ndim == 1 else samples
    resampled = [
        resample_sinc_hann(columns[:, channel], reference.sample_rate_hz, rate_hz)
        for channel in range(columns.shape[1])
    ]
    return mono(np.stack(resampled, axis=1))
