# SPDX-License-Identifier: Apache-2.0
"""Random crops out of a folder of audio files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from duologue.finetune.errors import DataError
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError

_SUFFIXES = {".wav", ".flac", ".ogg"}
_QUEUED_BATCHES = 3
# Lengths of crops in seconds and how often each is taken: mostly short, some as long as the
# encoder's window, so that short streaming windows and long ones both sound right.
_LENGTHS_S = (0.56, 1.04, 2.0, 3.04, 4.96, 10.0, 30.0)
_LENGTH_WEIGHTS = (0.10, 0.22, 0.28, 0.20, 0.12, 0.06, 0.02)
_SOFTEST, _LOUDEST = 0.25, 1.4
_LEVEL_CHANGED = 0.25
_SHORTEST_FILE_S = 0.01
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Crops of one length.

    Attributes:
        samples: [B, N] at the codec's input rate, N whole frames.
        wanted: [B, N'] the same audio at the codec's output rate.
    """

    samples: Tensor
    wanted: Tensor


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    num_samples: int
    rate_hz: int


class CropSource:
    """Draws crops from all files of a folder, long files more often than short ones.

    Args:
        files: audio of any rates.
        parameters: of the codec; no crop is longer than what it encodes and decodes at once.
        batch_s: seconds of audio in a batch.

    Raises:
        DataError: files that cannot be read or hold nothing; names the first few.
    """

    def __init__(self, files: list[Path], parameters: XyParameters, batch_s: float) -> None:
        self._parameters = parameters
        self._batch_s = batch_s
        self._max_frames = min(
            parameters.window_samples // parameters.input_samples_per_frame, parameters.max_frames
        )
        self._files = _describe_all(files)
        seconds = np.array([file.num_samples / file.rate_hz for file in self._files])
        self.total_s = float(seconds.sum())
        self._shares = seconds / seconds.sum()

    def draw(self, random: np.random.Generator) -> CropBatch:
        """One batch of about `batch_s` seconds.

        Raises:
            DataError: a file cannot be read; names it.
        """
        length_s = float(random.choice(_LENGTHS_S, p=_LENGTH_WEIGHTS))
        frame_s = self._parameters.input_samples_per_frame / self._parameters.input_rate_hz
        num_frames = min(round(length_s / frame_s), self._max_frames)
        num_rows = max(1, round(self._batch_s / (num_frames * frame_s)))
        chosen = random.choice(len(self._files), size=num_rows, p=self._shares)
        crops = [self._crop(self._files[i], num_frames, random) for i in chosen]
        samples, wanted = zip(*crops, strict=True)
        return CropBatch(torch.from_numpy(np.stack(samples)), torch.from_numpy(np.stack(wanted)))

    def _crop(
        self, file: _File, num_frames: int, random: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """A stretch at both rates; what is too short goes on with other files."""
        p = self._parameters
        size = num_frames * p.samples_per_frame
        wanted = self._read(file, size, random)
        while len(wanted) < size:
            other = self._files[random.choice(len(self._files), p=self._shares)]
            wanted = np.concatenate([wanted, self._read(other, size - len(wanted), random)])
        wanted = wanted[:size]
        if random.random() < _LEVEL_CHANGED:
            wanted = wanted * np.float32(random.uniform(_SOFTEST, _LOUDEST))
        samples = soxr.resample(wanted, p.sample_rate_hz, p.input_rate_hz)
        return fit(samples, num_frames * p.input_samples_per_frame), wanted

    def _read(self, file: _File, size: int, random: np.random.Generator) -> FloatArray:
        """At most `size` samples at the output rate, from anywhere in a file."""
        rate_hz = self._parameters.sample_rate_hz
        num_wanted = -(-size * file.rate_hz // rate_hz)
        start = int(random.integers(0, max(1, file.num_samples - num_wanted + 1)))
        try:
            samples, _ = soundfile.read(
                file.path, num_wanted, start, dtype="float32", always_2d=True
            )
        except soundfile.LibsndfileError as error:
            raise _unreadable(file.path, error) from error
        if len(samples) == 0:
            raise DataError(f"{file.path} has become shorter than it was when training began")
        resampled = soxr.resample(samples.mean(axis=1), file.rate_hz, rate_hz)
        return np.asarray(resampled[:size], dtype=np.float32)

    def batches(self, seed: int, first_step: int) -> Iterator[CropBatch]:
        """Endless batches, drawn ahead of time in a thread; step n is the same in every run.

        Raises:
            DataError: a file cannot be read; names it.
        """
        ready: queue.Queue[CropBatch | Exception] = queue.Queue(_QUEUED_BATCHES)

        def fill() -> None:
            step = first_step
            try:
                while True:
                    ready.put(self.draw(np.random.default_rng((seed, step))))
                    step += 1
            except Exception as error:  # whatever it is: who waits for the batch must hear of it
                ready.put(error)

        threading.Thread(target=fill, daemon=True).start()
        while True:
            drawn = ready.get()
            if isinstance(drawn, Exception):
                raise drawn
            yield drawn


def _describe_all(files: list[Path]) -> list[_File]:
    described, faults = [], []
    for path in files:
        try:
            described.append(_describe(path))
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - _MAX_NAMED} more" if len(faults) > _MAX_NAMED else ""
        raise DataError("; ".join(faults[:_MAX_NAMED]) + more)
    return described


def _describe(path: Path) -> _File:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from error
    if info.frames < _SHORTEST_FILE_S * info.samplerate:
        raise DataError(
            f"{path} holds {info.frames} samples; allowed: {_SHORTEST_FILE_S} s or more"
        )
    return _File(path, info.frames, info.samplerate)


def _unreadable(path: Path, error: soundfile.LibsndfileError) -> DataError:
    return DataError(f"{path} cannot be read: {error.error_string}")


def find_audio(directory: Path, name_starts_with: str = "") -> list[Path]:
    """All audio files below a folder, in order of their names.

    Args:
        directory: looked through with its sub-folders.
        name_starts_with: only files named so.

    Raises:
        ConfigError: there are none.
    """
    files = sorted(
        path for path in directory.rglob(f"{name_starts_with}*") if path.suffix.lower() in _SUFFIXES
    )
    if not files:
        raise ConfigError(f"{directory} holds no audio file; allowed: {sorted(_SUFFIXES)}")
    return files


def fit(samples: FloatArray, size: int) -> FloatArray:
    """Cut or pad with zeros.

    >>> fit(np.ones(2, dtype=np.float32), 3).tolist()
    [1.0, 1.0, 0.0]
    """
    samples = np.asarray(samples[:size], dtype=np.float32)
    return np.pad(samples, (0, size - len(samples)))
