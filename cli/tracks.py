# SPDX-License-Identifier: Apache-2.0
"""A dialogue taken apart: one WAV file per speaker, and the time line of the turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from duologue.client.wav import WavWriter
from duologue.runtime.errors import ScriptError
from duologue.runtime.text.script import parse_script

if TYPE_CHECKING:
    from duologue.client.types import AudioChunk, Int16Array, TurnTime

TIMELINE = "timeline.json"

# A track for each of two is written even where one of them says nothing.
_MIN_TRACKS = 2
_MAX_SPEAKERS = 99


@dataclass(frozen=True, slots=True)
class TimelineTurn:
    """One turn.

    Attributes:
        speaker: "S1", "S2", ...; the name of its track.
        text: as in the script; None where script and audio have not the same number of turns.
        start_s, end_s: as the server tells them.
        first_sample, end_sample: where it lies in its track, the end not included.
    """

    speaker: str
    text: str | None
    start_s: float
    end_s: float
    first_sample: int
    end_sample: int


class Tracks:
    """Gathers a stream, and writes it apart once the times of its turns are known.

    Attributes:
        folder: where the files will lie.
    """

    def __init__(self, folder: Path, script: str) -> None:
        """Begin; nothing is written yet.

        Args:
            folder: made when it is needed.
            script: what is spoken.
        """
        self.folder = folder
        self._script = script
        self._chunks: list[AudioChunk] = []

    def add(self, chunk: AudioChunk) -> None:
        """Take the chunk that follows."""
        self._chunks.append(chunk)

    def write(self) -> list[str]:
        """Write all files of a stream that has come to its end.

        Returns:
            Their names.
        """
        last = self._chunks[-1]
        samples = np.concatenate([chunk.samples for chunk in self._chunks])
        turns = timeline(self._script, last.turn_times, last.sample_rate_hz, len(samples))
        tracks = split_tracks(samples, turns)
        self.folder.mkdir(parents=True, exist_ok=True)
        for speaker, track in tracks.items():
            with WavWriter(self.folder / f"{speaker}.wav", last.sample_rate_hz) as wav:
                wav.write(track)
        names = [f"{speaker}.wav" for speaker in tracks]
        facts = {
            "sample_rate_hz": last.sample_rate_hz,
            "num_samples": len(samples),
            "duration_s": len(samples) / last.sample_rate_hz,
            "seed": last.seed,
            "finish_reason": last.finish_reason,
            # Where the model marks no turns, their borders are estimated from the text.
            "turn_timing": last.turn_timing,
            "tracks": names,
            "turns": [asdict(turn) for turn in turns],
        }
        text = json.dumps(facts, ensure_ascii=False, indent=2)
        (self.folder / TIMELINE).write_text(text + "\n", encoding="utf-8")
        return [*names, TIMELINE]


def timeline(
    script: str, times: Sequence[TurnTime], sample_rate_hz: int, num_samples: int
) -> list[TimelineTurn]:
    """The turns of a script where they lie in its audio.

    A pause between two turns belongs to the one before it, so that the ranges of all turns
    together are the whole audio.

    Args:
        script: what was spoken.
        times: of the turns, in their order.
        sample_rate_hz: of the audio.
        num_samples: length of the audio.
    """
    borders = [0, *(round(time.start_s * sample_rate_hz) for time in times[1:]), num_samples]
    # A turn that the cap on frames cut off begins where the audio ends.
    borders = np.maximum.accumulate(np.clip(borders, 0, num_samples)).tolist()
    texts = _texts(script, len(times))
    return [
        TimelineTurn(f"S{time.speaker}", text, time.start_s, time.end_s, first, end)
        for time, text, first, end in zip(times, texts, borders, borders[1:], strict=False)
    ]


def split_tracks(samples: Int16Array, turns: Sequence[TimelineTurn]) -> dict[str, Int16Array]:
    """Audio [N] as one track [N] per speaker, silent where another one speaks."""
    speakers = {f"S{number}" for number in range(1, _MIN_TRACKS + 1)}
    speakers |= {turn.speaker for turn in turns}
    names = sorted(speakers, key=lambda name: int(name[1:]))
    tracks = {name: np.zeros_like(samples) for name in names}
    for turn in turns:
        place = slice(turn.first_sample, turn.end_sample)
        tracks[turn.speaker][place] = samples[place]
    return tracks


def _texts(script: str, num_turns: int) -> list[str] | list[None]:
    """What each turn says; a server may read a script otherwise than we do."""
    try:
        turns = parse_script(script, max_speakers=_MAX_SPEAKERS).turns
    except ScriptError:
        turns = ()
    if len(turns) != num_turns:
        return [None] * num_turns
    return [turn.text for turn in turns]
