# SPDX-License-Identifier: Apache-2.0
"""Ask `espeak-ng` to speak a sentence."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import soundfile

from duologue.finetune.speech_data.voices import MANDARIN_ACCENT, EspeakVoice
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineUnavailableError
from duologue.runtime.text.pinyin import to_pinyin

ESPEAK_RATE_HZ = 22_050
_PROGRAM = "espeak-ng"
_TIMEOUT_S = 60
# Of full scale; what is softer at either end counts as silence.
_SILENCE = 0.002
_KEPT_S = 0.01
# Streamed WAV headers announce the largest size there is, so the real one is written in.
_RIFF_SIZE, _DATA_SIZE, _HEADER_BYTES = 4, 40, 44


def require_espeak() -> None:
    """Check that `espeak-ng` is there.

    Raises:
        EngineUnavailableError: it is not.
    """
    if shutil.which(_PROGRAM) is None:
        raise EngineUnavailableError(
            "espeak-ng is not installed; on Debian and Ubuntu: apt-get install espeak-ng"
        )


def speak(text: str, voice: EspeakVoice) -> FloatArray:
    """Speak one turn.

    Args:
        text: plain text in the voice's language; Chinese in characters.
        voice: who speaks.

    Returns:
        Mono [N] at `ESPEAK_RATE_HZ`, without silence at the ends; N is 0 where nothing in the
        text can be spoken.
    """
    written = to_pinyin(text) if voice.accent == MANDARIN_ACCENT else text
    command = [_PROGRAM, "-v", voice.espeak_name, "-p", str(voice.pitch)]
    command += ["-s", str(voice.words_per_minute), "-b", "1", "-z", "--stdin", "--stdout"]
    done = subprocess.run(
        command, input=written.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True
    )
    return trim_silence(_read_streamed_wav(done.stdout))


def trim_silence(samples: FloatArray) -> FloatArray:
    """Cut what is silent at both ends, but for a hundredth of a second.

    >>> len(trim_silence(np.zeros(1000, dtype=np.float32)))
    0
    """
    loud = np.flatnonzero(np.abs(samples) > _SILENCE)
    if len(loud) == 0:
        return samples[:0]
    margin = int(_KEPT_S * ESPEAK_RATE_HZ)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def _read_streamed_wav(data: bytes) -> FloatArray:
    if len(data) <= _HEADER_BYTES:
        return np.zeros(0, dtype=np.float32)
    wav = bytearray(data)
    wav[_RIFF_SIZE : _RIFF_SIZE + 4] = (len(wav) - 8).to_bytes(4, "little")
    wav[_DATA_SIZE : _DATA_SIZE + 4] = (len(wav) - _HEADER_BYTES).to_bytes(4, "little")
    samples, _ = soundfile.read(io.BytesIO(wav), dtype="float32")
    return np.asarray(samples, dtype=np.float32)
