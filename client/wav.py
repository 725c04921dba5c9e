# SPDX-License-Identifier: Apache-2.0
"""A WAV file that is complete at every moment, written while the audio still comes.

libsndfile (behind soundfile) and the standard library's `wave` put the true length into the
header when the file is closed; a writer that is killed leaves a file of length 0. Here the
header is put right after every write.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_RIFF_OVERHEAD = _HEADER.size - 8
_UNKNOWN_SIZE = 0xFFFFFFFF
_PCM = 1
_BYTES_PER_SAMPLE = 2


def wav_header(sample_rate_hz: int, num_samples: int | None) -> bytes:
    """The 44 bytes in front of mono 16-bit samples.

    Args:
        sample_rate_hz: of the samples.
        num_samples: how many follow; None writes the largest size, by which players know a
            stream of unknown length. More than fits (24 hours at 24 kHz) reads the same.
    """
    data_size = _UNKNOWN_SIZE - _RIFF_OVERHEAD
    if num_samples is not None:
        data_size = min(num_samples * _BYTES_PER_SAMPLE, data_size)
    return _HEADER.pack(
        b"RIFF",
        data_size + _RIFF_OVERHEAD,
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        1,
        sample_rate_hz,
        sample_rate_hz * _BYTES_PER_SAMPLE,
        _BYTES_PER_SAMPLE,
        8 * _BYTES_PER_SAMPLE,
        b"data",
        data_size,
    )


def as_int16(samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Samples as they stand in a WAV file: int16 as it is, float in [-1, 1] scaled and clipped."""
    if samples.dtype == np.int16:
        return samples.astype(np.int16, copy=False)
    scaled: npt.NDArray[np.int16] = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(
        np.int16
    )
    return scaled


class WavWriter:
    """Writes mono 16-bit WAV; usable as a context manager.

    After each `write` the file on disk is a whole WAV file, even if the process is killed the
    moment after. A pipe, standard output, or a stream that was handed in cannot be rewound and
    gets a header of unknown length instead.

    Attributes:
        num_samples: written so far.
    """

    def __init__(self, target: str | Path | IO[bytes], sample_rate_hz: int) -> None:
        """Open the target and write the header of an empty file.

        Args:
            target: a path, "-" for standard output, or a binary stream, which stays open.
            sample_rate_hz: of the samples that will be written.
        """
        self.num_samples = 0
        self._sample_rate_hz = sample_rate_hz
        self._owns_stream = False
        if target == "-":
            self._stream: IO[bytes] = sys.stdout.buffer
        elif isinstance(target, (str, Path)):
            # Unbuffered: data reaches the file before the header that counts it.
            self._stream = open(target, "wb", buffering=0)  # noqa: SIM115
            self._owns_stream = True
        else:
            self._stream = target
        self._can_rewind = self._owns_stream and self._stream.seekable()
        self._put(wav_header(sample_rate_hz, 0 if self._can_rewind else None))

    def write(self, samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> None:
        """Append samples [N], int16 or float32 in [-1, 1]."""
        self._put(as_int16(samples).astype("<i2", copy=False).tobytes())
        self.num_samples += len(samples)
        if self._can_rewind:
            self._stream.seek(0)
            self._put(wav_header(self._sample_rate_hz, self.num_samples))
            self._stream.seek(0, 2)

    @property
    def duration_s(self) -> float:
        """Seconds of audio written so far."""
        return self.num_samples / self._sample_rate_hz

    def close(self) -> None:
        """Close the file if the writer opened it."""
        if self._owns_stream:
            self._stream.close()

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view) > 0:
            view = view[self._stream.write(view) :]
        self._stream.flush()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
