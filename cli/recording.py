# SPDX-License-Identifier: Apache-2.0
"""Chunks into a WAV file and a player while they come, and the report at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.cli.player import Playback, Player
from duologue.client.errors import EngineError
from duologue.client.wav import WavWriter

if TYPE_CHECKING:
    from duologue.cli.tracks import Tracks
    from duologue.client.types import AudioChunk, TurnTime


@dataclass(frozen=True, slots=True)
class Report:
    """How a dialogue was made.

    Attributes:
        file: where it lies; "-" for standard output.
        source: "server", "embedded" or "in_process".
        duration_s: of the audio.
        ttfa_s: time to first audio, from the request on.
        rtf: real-time factor: seconds of work per second of audio; None without audio.
        sample_rate_hz: of the file.
        seed: gives the same audio again.
        finish_reason: "stop", or "length" when the cap on frames cut it.
        turn_times: who speaks when.
        is_trained: False for a model that makes noise; None when only the server knows.
    """

    file: str
    source: str
    duration_s: float
    ttfa_s: float
    rtf: float | None
    sample_rate_hz: int
    seed: int
    finish_reason: str
    turn_times: tuple[TurnTime, ...]
    is_trained: bool | None

    def line(self) -> str:
        """For a person."""
        parts = [
            f"{self.duration_s:.2f} s of audio",
            f"first audio after {self.ttfa_s:.2f} s",
        ]
        if self.rtf is not None:
            parts.append(f"real-time factor {self.rtf:.2f}")
        parts.append(f"seed {self.seed}")
        if self.finish_reason == "length":
            parts.append("cut at the cap on frames")
        return f"{self.file}: " + ", ".join(parts)

    def json(self) -> str:
        """For a program."""
        return json.dumps(asdict(self))


class Recording:
    """A WAV file, and a player and tracks beside it, that open with the first chunk.

    Attributes:
        path: as named on the command line; "-" for standard output.
        duration_s: seconds of audio so far.
    """

    def __init__(self, path: str, player: Player | None, tracks: Tracks | None = None) -> None:
        self.path = path
        self._tracks = tracks
        self.duration_s = 0.0
        self._player = player
        self._wav: WavWriter | None = None
        self._playback: Playback | None = None

    def add(self, chunk: AudioChunk) -> None:
        """Append the chunk's samples."""
        if self._wav is None:
            self._wav = WavWriter(self.path, chunk.sample_rate_hz)
            if self._player is not None:
                self._playback = Playback(self._player, chunk.sample_rate_hz)
        self._wav.write(chunk.samples)
        self.duration_s = self._wav.duration_s
        if self._playback is not None:
            self._playback.put(chunk.samples)
        if self._tracks is not None:
            self._tracks.add(chunk)

    def finish_playing(self) -> None:
        """Wait until all is heard."""
        if self._playback is not None:
            self._playback.finish(Path(self.path))

    def close(self) -> None:
        """Close the file and silence the player."""
        if self._playback is not None:
            self._playback.stop()
        if self._wav is not None:
            self._wav.close()


def record(
    chunks: Iterator[AudioChunk],
    recording: Recording,
    *,
    source: str,
    is_trained: bool | None,
    show: Callable[[float, int], None],
) -> Report:
    """Take a stream to its end.

    Args:
        chunks: of one dialogue; the request begins with the first step of the iteration.
        recording: takes the samples.
        source: for the report.
        is_trained: for the report.
        show: told of the seconds of audio and the number of turns begun, after every chunk.

    Raises:
        DuologueError: as the stream raises it; the recording keeps what came before.
    """
    began_at_s = time.monotonic()
    ttfa_s: float | None = None
    last: AudioChunk | None = None
    for chunk in chunks:
        recording.add(chunk)
        if ttfa_s is None and len(chunk.samples) > 0:
            ttfa_s = time.monotonic() - began_at_s
        show(recording.duration_s, chunk.turn + 1)
        last = chunk
    took_s = time.monotonic() - began_at_s
    if last is None:
        raise EngineError("the stream ended without a chunk")
    return Report(
        file=recording.path,
        source=source,
        duration_s=recording.duration_s,
        ttfa_s=took_s if ttfa_s is None else ttfa_s,
        rtf=took_s / recording.duration_s if recording.duration_s > 0 else None,
        sample_rate_hz=last.sample_rate_hz,
        seed=last.seed,
        finish_reason=last.finish_reason or "",
        turn_times=last.turn_times,
        is_trained=is_trained,
    )
