"""`duologue serve --tensor-parallel 2`: mpirun, two ranks, a real server, spoken audio."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mpirun import PLACES, take_mpirun

from duologue.client import DialogueClient, WavWriter
from duologue.client.errors import DuologueError
from duologue.client.wav import as_int16
from duologue.runtime.core import SamplingOverrides
from duologue.runtime.supervisor.mpi_launch import Mpirun
from duologue.runtime.synthesizer import Synthesizer

pytestmark = pytest.mark.slow
SERVE = [sys.executable, "-m", "duologue.cli", "serve", "--tensor-parallel", "2"]
OPTIONS = ["--engine", "numpy", "--bundle", "noise", "--no-http", "--grpc-port", "0"]
SCRIPT = "[S1]Hello there.[S2]And good day to you."
WAIT_S = 90.0


class Service:
    """A running command, whose first line says where it listens."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *OPTIONS, "--metrics-port", "0", "--json"],
                env={**environment, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.facts = json.loads(line)

    def rank_pid(self, rank: int) -> int:
        """Of the process that mpirun started, the eldest of its rank."""
        wanted = f"OMPI_COMM_WORLD_RANK={rank}".encode()
        pids = [pid for pid in _descendants(self.process.pid) if wanted in _environment(pid)]
        return min(pids)

    def end(self) -> int:
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [d for child in children for d in (int(child), *_descendants(int(child)))]


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _under(mpirun: Mpirun) -> list[str]:
    return mpirun.command(2, SERVE)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def by_hand(log: Path) -> Iterator[Service]:
    take_mpirun("wheel")
    service = Service(SERVE, dict(os.environ), log)
    yield service
    service.close()


@pytest.mark.parametrize("place", PLACES)
def test_two_ranks_of_an_mpirun_line_speak(place: str, log: Path, tmp_path: Path) -> None:
    mpirun = take_mpirun(place)
    service = Service(_under(mpirun), mpirun.rank_environment(os.environ), log)
    try:
        assert (service.facts["engine"], service.facts["precision"]) == ("numpy", "float32")
        sampling = SamplingOverrides(greedy=True)
        with DialogueClient(service.facts["grpc_url"]) as client:
            speech = client.synthesize(SCRIPT, seed=1, max_frames=24, greedy=True)
            with WavWriter(tmp_path / "talk.wav", client.sample_rate_hz) as wav:
                wav.write(speech.samples)
        assert soundfile.info(tmp_path / "talk.wav").frames == len(speech.samples) > 0
        with Synthesizer.load("noise", engine="torch") as reference:
            expected = reference.synthesize(SCRIPT, seed=1, max_frames=24, sampling=sampling)
        assert len(speech.samples) == len(expected.samples)
        np.testing.assert_allclose(speech.samples, as_int16(expected.samples), rtol=0, atol=2)
    finally:
        service.close()


def test_the_service_starts_mpirun_by_itself_and_ends_in_order(by_hand: Service) -> None:
    with DialogueClient(by_hand.facts["grpc_url"]) as client:
        assert len(client.synthesize(SCRIPT, seed=1, max_frames=8).samples) > 0
    ranks = [by_hand.rank_pid(rank) for rank in (0, 1)]
    by_hand.process.send_signal(signal.SIGTERM)
    assert by_hand.end() == 0, by_hand.log.read_text()
    _wait_for(lambda: not any(_environment(pid) for pid in ranks))
    assert "has died" not in by_hand.log.read_text()


def test_a_killed_rank_ends_stream_and_service_with_the_reason(by_hand: Service) -> None:
    victim, leader = by_hand.rank_pid(1), by_hand.rank_pid(0)
    with DialogueClient(by_hand.facts["grpc_url"]) as client:
        stream = client.stream(SCRIPT, seed=1, max_frames=3000)
        next(iter(stream))
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(DuologueError, match=r"rank 1 has died|no answer"):
            list(stream)
    assert by_hand.end() == 1
    said = re.sub(r"\s+", " ", by_hand.log.read_text())
    assert "rank 1 ended by signal 9; the model was split over 2 ranks" in said
    _wait_for(lambda: not _environment(leader))


def test_the_death_of_rank_0_ends_the_others(by_hand: Service) -> None:
    leader, follower = by_hand.rank_pid(0), by_hand.rank_pid(1)
    os.kill(leader, signal.SIGKILL)
    assert by_hand.end() != 0
    _wait_for(lambda: not _environment(follower))


def test_ranks_that_do_not_fit_the_option_are_refused() -> None:
    done = subprocess.run(
        [*SERVE, *OPTIONS],
        env={**os.environ, "OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 2
    assert "--tensor-parallel is 2, but mpirun started 3 ranks" in done.stderr


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_an_engine_that_cannot_be_split_is_refused_by_name(engine: str) -> None:
    done = subprocess.run(
        [*SERVE, "--engine", engine, "--bundle", "noise"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"engine {engine} cannot be split over 2 ranks" in done.stderr
