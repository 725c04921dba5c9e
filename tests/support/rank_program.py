"""Run by mpirun: rank 0 speaks greedily with the numpy engine and writes its codes and logits.

Arguments: a file for the codes, and "die" to have rank 1 killed in the middle.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duologue.models import resolve_bundle
from duologue.runtime.backbone.numpy_body import NumpyBody
from duologue.runtime.backbone.ranks import mpi_world
from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.ranks_engines import follow_leader
from duologue.runtime.core import FloatArray, SamplingOverrides, SpeechRequest
from duologue.runtime.errors import EngineError
from duologue.runtime.synthesizer import Synthesizer

SCRIPT = "[S1]Hello there.[S2]And good day to you."
NUM_FRAMES = 24


def speak(engine: str, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """Greedy codes [K, T] of the noise bundle."""
    request = SpeechRequest(
        SCRIPT,
        seed=1,
        sampling=SamplingOverrides(greedy=True),
        max_frames=num_frames,
        codes_only=True,
    )
    with Synthesizer.load(resolve_bundle("noise"), engine=engine, max_slots=2) as synthesizer:
        stream = synthesizer.submit(request)
        for _ in stream:
            pass
        return stream.codes


def _die_in_step(number: int) -> None:
    steps, step = itertools.count(1), NumpyBody.step

    def last_step(body: NumpyBody, pieces: Sequence[Piece]) -> FloatArray:
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(body, pieces)

    NumpyBody.step = last_step  # type: ignore[method-assign]


def main() -> None:
    world = mpi_world()
    is_to_die = sys.argv[2:] == ["die"]
    if not world.is_leader:
        if is_to_die:
            _die_in_step(40)
        follow_leader(world)
        return
    try:
        codes = speak("numpy", 3000 if is_to_die else NUM_FRAMES)
    except EngineError as error:
        sys.stdout.write(f"EngineError: {error}\n")
        sys.stdout.flush()
        os._exit(1)
    np.save(Path(sys.argv[1]), codes)


if __name__ == "__main__":
    main()
