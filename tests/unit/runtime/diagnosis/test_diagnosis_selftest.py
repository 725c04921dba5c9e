from __future__ import annotations

import threading

import numpy as np
import pytest

from duologue.client.errors import EngineError
from duologue.runtime.diagnosis.finding import Level
from duologue.runtime.diagnosis.selftest import check_server


class _Chunk:
    def __init__(self, value: float) -> None:
        self.samples = np.full(240 if value else 0, value, np.float32)


class _Stream:
    def __init__(self, chunks, on_close) -> None:
        self._chunks, self._on_close = chunks, on_close

    def __iter__(self):
        return iter(self._chunks)

    def close(self) -> None:
        self._on_close()


class _Client:
    """Says what its script tells it to, call by call."""

    def __init__(self, *answers) -> None:
        self._answers, self._lock, self.closed = list(answers), threading.Lock(), 0

    def stream(self, script, **options):
        assert options["seed"] == 11
        with self._lock:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return _Stream([_Chunk(answer)], self._close)

    def _close(self) -> None:
        self.closed += 1


def test_a_good_server_passes_everything() -> None:
    client = _Client(0.5)
    findings = check_server(client)
    assert [finding.level for finding in findings] == [Level.OK] * 3
    assert client.closed == 1


def test_a_server_that_is_away_is_one_fault() -> None:
    (finding,) = check_server(_Client(EngineError("nobody answers")))
    assert finding.level is Level.FAULT
    assert "nobody answers" in finding.found


def test_other_audio_for_the_same_seed_is_a_fault() -> None:
    callers = check_server(_Client(0.5, 0.5, 0.25))[1]
    assert callers.level is Level.FAULT
    assert "other audio" in callers.found


def test_an_error_for_one_of_two_callers_is_a_fault() -> None:
    callers = check_server(_Client(0.5, EngineError("full"), 0.5))[1]
    assert (callers.level, callers.found) == (Level.FAULT, "full")


def test_a_server_without_audio_is_a_fault() -> None:
    (finding,) = check_server(_Client(0.0))
    assert (finding.level, finding.found) == (Level.FAULT, "it answered without any audio")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_caller_that_breaks_off_is_a_fault() -> None:
    callers = check_server(_Client(0.5, ValueError("not one of ours"), 0.5))[1]
    assert (callers.level, callers.found) == (Level.FAULT, "a caller broke off")
