"""Two real ranks of a real mpirun."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rank_program
from mpirun import PLACES, run_program, take_mpirun

pytestmark = pytest.mark.slow
PROGRAM = Path(rank_program.__file__)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return rank_program.speak("torch")


def test_one_rank_says_what_the_torch_engine_says(expected: np.ndarray) -> None:
    assert (rank_program.speak("numpy") == expected).all()
    assert expected.shape[1] > 0


@pytest.mark.parametrize("place", PLACES)
def test_two_ranks_say_what_the_torch_engine_says(
    expected: np.ndarray, tmp_path: Path, place: str
) -> None:
    done = run_program(take_mpirun(place), 2, PROGRAM, str(tmp_path / "codes.npy"))
    assert done.returncode == 0, done.stderr
    assert (np.load(tmp_path / "codes.npy") == expected).all()


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_rank_ends_the_stream_and_the_other_rank(tmp_path: Path, place: str) -> None:
    done = run_program(take_mpirun(place), 2, PROGRAM, str(tmp_path / "codes.npy"), "die")
    assert done.returncode != 0
    assert "EngineError: rank 1 has died" in done.stdout, (done.stdout, done.stderr)
    assert not (tmp_path / "codes.npy").exists()
