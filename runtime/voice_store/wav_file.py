# SPDX-License-Identifier: Apache-2.0
"""Reference audio as WAV files of one kind: mono, 32-bit float, the same bytes for the same audio.

No other kind is read, so that no parser of foreign formats runs in this process.
"""

from __future__ import annotations

import struct

import numpy as np

from duologue.runtime.audio import validate_reference_audio
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import VoiceError

_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")
_IEEE_FLOAT = 3
_BYTES_PER_SAMPLE = 4


def write_float_wav(samples: FloatArray, sample_rate_hz: int) -> bytes:
    """A WAV file.

    Args:
        samples: mono [N].
        sample_rate_hz: of the samples.
    """
    data = np.ascontiguousarray(samples, dtype="<f4").tobytes()
    return _header(sample_rate_hz, len(data)) + data


def read_float_wav(data: bytes) -> tuple[FloatArray, int]:
    """Read what `write_float_wav` wrote.

    Returns:
        Mono samples [N] and their rate in Hz.

    Raises:
        VoiceError: another kind of file, or audio that cannot be a voice.
    """
    if len(data) < _HEADER.size:
        raise VoiceError("the audio of the voice is cut short")
    rate_hz = int(_HEADER.unpack_from(data)[7])
    size = len(data) - _HEADER.size
    fits = rate_hz < 2**30 and size % _BYTES_PER_SAMPLE == 0
    if not fits or _header(rate_hz, size) != data[: _HEADER.size]:
        raise VoiceError("the audio of the voice is no mono 32-bit float WAV file of this store")
    samples = np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float32)
    validate_reference_audio(samples, rate_hz)
    return samples, rate_hz


def _header(sample_rate_hz: int, data_size: int) -> bytes:
    return _HEADER.pack(
        *(b"RIFF", _HEADER.size - 8 + data_size, b"WAVE"),
        *(b"fmt ", 18, _IEEE_FLOAT, 1, sample_rate_hz, sample_rate_hz * _BYTES_PER_SAMPLE),
        *(_BYTES_PER_SAMPLE, 8 * _BYTES_PER_SAMPLE, 0),
        *(b"fact", 4, data_size // _BYTES_PER_SAMPLE),
        *(b"data", data_size),
    )
