# SPDX-License-Identifier: Apache-2.0
"""Plays audio through a program that is on the machine already."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from duologue.client.wav import WavWriter


@dataclass(frozen=True, slots=True)
class Player:
    """A program that plays audio.

    Attributes:
        name: of the program.
        arguments: its command line after the name; {rate} stands for the sample rate.
        takes: "wav" and "raw" are read from standard input while the audio still comes;
            "file" is a path, played when it is complete.
    """

    name: str
    arguments: tuple[str, ...]
    takes: Literal["wav", "raw", "file"]

    def command(self, sample_rate_hz: int) -> list[str]:
        """What to run."""
        return [self.name, *(a.format(rate=sample_rate_hz) for a in self.arguments)]


PLAYERS = (
    Player("ffplay", ("-nodisp", "-autoexit", "-loglevel", "error", "-f", "wav", "-"), "wav"),
    Player("aplay", ("-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}", "-"), "raw"),
    Player("paplay", ("--raw", "--format=s16le", "--channels=1", "--rate={rate}"), "raw"),
    Player("afplay", (), "file"),
    Player("play", ("-q", "-t", "wav", "-"), "wav"),
)


def find_player(which: Callable[[str], str | None] = shutil.which) -> Player | None:
    """The first known player on PATH, or None."""
    return next((player for player in PLAYERS if which(player.name) is not None), None)


class Playback:
    """One dialogue being played.

    A player takes audio no faster than it plays, so a thread feeds it: the dialogue is made
    and written to its file at full speed.
    """

    def __init__(self, player: Player, sample_rate_hz: int) -> None:
        """Start the player, unless it wants a file."""
        self._player = player
        self._rate_hz = sample_rate_hz
        self._queue: queue.SimpleQueue[npt.NDArray[np.int16] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        if player.takes != "file":
            self._process = subprocess.Popen(
                player.command(sample_rate_hz), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            self._feeder = threading.Thread(target=self._feed, args=(self._process,), daemon=True)
            self._feeder.start()

    def put(self, samples: npt.NDArray[np.int16]) -> None:
        """Play samples [N] after those before."""
        self._queue.put(samples)

    def finish(self, path: Path) -> None:
        """Wait until all is heard.

        Args:
            path: the complete WAV file.
        """
        if self._process is None:
            subprocess.run([*self._player.command(self._rate_hz), str(path)], check=False)
            return
        self._queue.put(None)
        self._feeder.join()
        self._process.wait()

    def stop(self) -> None:
        """Fall silent at once. Does nothing after `finish`."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._queue.put(None)
            self._feeder.join()
            self._process.wait()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            with process.stdin as stdin:
                wav = WavWriter(stdin, self._rate_hz) if self._player.takes == "wav" else None
                while (samples := self._queue.get()) is not None:
                    if wav is not None:
                        wav.write(samples)
                    else:
                        stdin.write(samples.astype("<i2", copy=False).tobytes())
                        stdin.flush()
        except BrokenPipeError:
            return  # the listener closed the player; the file is written all the same
