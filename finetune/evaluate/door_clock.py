# SPDX-License-Identifier: Apache-2.0
"""How fast a bundle speaks through a door, one dialogue at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from duologue.finetune.evaluate.evaluation import RealTime

Say = Callable[[str, int], float]
"""Speaks a script with a seed to its end, and returns the seconds of audio."""


@dataclass(frozen=True, slots=True)
class Door:
    """Something that speaks.

    Attributes:
        name: for the table, e.g. "a Triton server on this machine".
        say: see `Say`.
    """

    name: str
    say: Say


OpenDoor = Callable[[], AbstractContextManager[Door]]


def time_door(
    open_door: OpenDoor, scripts: Sequence[str], on_progress: Callable[[int, int], None]
) -> RealTime:
    """Speak scripts one after the other.

    Args:
        open_door: opens what is timed; opening is not.
        scripts: the first one is spoken once more before, since what is first asked takes longer.
        on_progress: told how many of how many have been spoken.
    """
    with open_door() as door:
        door.say(scripts[0], 0)
        started_at_s, audio_s = time.monotonic(), 0.0
        for done, script in enumerate(scripts, start=1):
            audio_s += door.say(script, done)
            on_progress(done, len(scripts))
        wall_s = time.monotonic() - started_at_s
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return RealTime(door.name, cores or 1, round(audio_s, 2), round(wall_s, 2))
