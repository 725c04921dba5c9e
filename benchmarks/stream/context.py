# SPDX-License-Identifier: Apache-2.0
"""`bench context`: what the contexts of a window cost and bring.

Codes that the model itself speaks are decoded once as a whole and then in windows of one length,
with less or more context on either side. What differs is the price of streaming.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.benchmarks.statistics import percentile
from duologue.benchmarks.stream.clicks import SIDE_S, seam_score
from duologue.benchmarks.workload import Workload
from duologue.client.errors import RequestError
from duologue.runtime.audio import to_int16
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.window import Stitcher, WindowPlan
from duologue.runtime.config import WindowConfig, WindowStep
from duologue.runtime.core import FloatArray, IntArray, SpeechRequest
from duologue.runtime.synthesizer import Synthesizer

_FRAME_S = 0.04
_FRAMES_PER_HOP = 4
_FLOOR_SHARE = 1e-4
_FADE_S = 0.02


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What is decoded.

    Attributes:
        workloads: dialogues that the model speaks.
        hops, lefts, rights: frames; all combinations are measured.
        max_frames: of each dialogue.
        seed: of the first dialogue.
    """

    workloads: tuple[Workload, ...]
    hops: tuple[int, ...]
    lefts: tuple[int, ...]
    rights: tuple[int, ...]
    max_frames: int = 250
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("hops", 1), ("lefts", 0), ("rights", 0)):
            values = getattr(self, name)
            if not values or min(values) < least:
                raise RequestError(f"{name} is {values}; allowed: at least one, {least} or more")
        if not self.workloads:
            raise RequestError("workloads is empty; allowed: one or more")

    @property
    def windows(self) -> list[WindowStep]:
        """All combinations."""
        combinations = itertools.product(self.hops, self.rights, self.lefts)
        return [WindowStep(hop, left, right) for hop, right, left in combinations]


def speak_codes(bundle_dir: Path, engine: str, plan: ContextPlan) -> list[IntArray]:
    """Codes [K, T] of each dialogue, T at most what the codec decodes as a whole.

    Raises:
        ConfigError: the bundle cannot be loaded.
    """
    with Synthesizer.load(bundle_dir, engine=engine, max_slots=len(plan.workloads)) as speaker:
        max_frames = min(plan.max_frames, speaker.bundle.codec.max_frames)
        requests = [
            SpeechRequest(each.script, seed=plan.seed + i, max_frames=max_frames, codes_only=True)
            for i, each in enumerate(plan.workloads)
        ]
        streams = [speaker.submit(request) for request in requests]
        for stream in streams:
            list(stream)
        return [stream.codes for stream in streams if stream.codes.shape[1] > 0]


def measure_contexts(
    codec: Codec,
    clips: Sequence[IntArray],
    windows: Sequence[WindowStep],
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Compare the streamed with the whole decode.

    Args:
        codec: the decoder.
        clips: codes [K, T], T at most `codec.config.max_frames`.
        windows: each is used for a whole stream.
        progress: told of each window that was measured.

    Returns:
        One row per window, as the schema of `bench context` describes it.
    """
    wholes = [codec.decode(codes[None])[0] for codes in clips]
    rows = []
    for window in windows:
        rows.append(_row(codec, clips, wholes, window))
        progress()
    return rows


def _row(
    codec: Codec, clips: Sequence[IntArray], wholes: Sequence[FloatArray], window: WindowStep
) -> dict[str, Any]:
    rate_hz = codec.config.sample_rate_hz
    distances, errors, powers, jumps = [], 0.0, 0.0, []
    seams: list[float] = []
    decoded = emitted = 0
    for codes, whole in zip(clips, wholes, strict=True):
        streamed, num_frames = _stream(codec, codes, window)
        decoded, emitted = decoded + num_frames, emitted + codes.shape[1]
        distances.append(log_spectral_distance_db(streamed, whole, rate_hz))
        errors += float(((streamed - whole) ** 2).sum())
        powers += float((whole**2).sum())
        hop = window.hop * codec.config.samples_per_frame
        borders = range(hop, len(whole) - hop, hop)
        jumps += [jump_db(streamed, whole, border, rate_hz) for border in borders]
        seams += [_seam(streamed, border, rate_hz) for border in borders]
    return {
        "hop": window.hop,
        "left": window.left,
        "right": window.right,
        "lsd_db": float(np.mean(distances)),
        "snr_db": float(10 * np.log10(powers / max(errors, 1e-12))),
        "jump_db": None if not jumps else percentile(jumps, 0.5),
        "seam_score": None if not seams else percentile(seams, 0.99),
        "frames_per_frame": decoded / emitted,
    }


def _stream(codec: Codec, codes: IntArray, window: WindowStep) -> tuple[FloatArray, int]:
    """A stream of windows of one kind, and the frames that were decoded for it."""
    fade = round(_FADE_S * codec.config.sample_rate_hz) if window.right else 0
    config = WindowConfig((window,), fade)
    plan, stitcher = WindowPlan(config), Stitcher(config, codec.config.samples_per_frame)
    pieces, num_frames = [], 0
    while (due := plan.next(codes, is_complete=True)) is not None:
        pieces.append(stitcher.push(due, codec.decode(due.codes[None])[0]))
        num_frames += due.codes.shape[1]
    return np.concatenate(pieces), num_frames


def log_spectral_distance_db(one: FloatArray, other: FloatArray, rate_hz: int) -> float:
    """Mean over time of the root mean square difference of the log power spectra, in dB.

    Bins 40 dB below the mean power count as equally quiet.

    >>> tone = np.sin(np.arange(4800) / 10).astype(np.float32)
    >>> log_spectral_distance_db(tone, tone, 24000)
    0.0
    """
    power, reference = _spectra(one, rate_hz), _spectra(other, rate_hz)
    floor = _FLOOR_SHARE * reference.mean() + np.finfo(np.float64).tiny
    difference = 10 * np.log10((power + floor) / (reference + floor))
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def _spectra(samples: FloatArray, rate_hz: int) -> npt.NDArray[np.float64]:
    """Power spectra [frames, bins] of windows of 40 ms."""
    length = round(_FRAME_S * rate_hz)
    hop = length // _FRAMES_PER_HOP
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    spectra = np.fft.rfft(frames * np.hanning(length))
    power: npt.NDArray[np.float64] = np.square(np.abs(spectra))
    return power


def jump_db(streamed: FloatArray, whole: FloatArray, border: int, rate_hz: int) -> float:
    """The error within 10 ms of a border against the whole decode's power there, in dB."""
    side = round(SIDE_S * rate_hz)
    near = slice(border - side, border + side)
    error = float(((streamed[near] - whole[near]) ** 2).mean())
    power = float((whole**2).mean())
    return float(10 * np.log10(max(error, 1e-12) / max(power, 1e-12)))


def _seam(streamed: FloatArray, border: int, rate_hz: int) -> float:
    side = round(SIDE_S * rate_hz)
    return seam_score(to_int16(streamed[border - side : border + side]))
