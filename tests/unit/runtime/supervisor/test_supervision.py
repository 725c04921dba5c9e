from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NoReturn, cast

import pytest

from duologue.runtime.errors import EngineError
from duologue.runtime.supervisor.death_watch import DeathWatch
from duologue.runtime.supervisor.failure import Failure, RestartBudget, RestartPolicy
from duologue.runtime.supervisor.pulse import Pulse, read_audio_seconds
from duologue.runtime.supervisor.supervisor import Supervisor

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
DIED = Failure("model_died", "the process of the model x has died")


def test_a_death_is_noticed_and_nothing_else() -> None:
    with subprocess.Popen(SLEEP) as process, DeathWatch([process.pid]) as watch:
        assert not watch.wait(0.01)
        process.kill()
        assert watch.wait(30)
        assert watch.wait(30), "it stays dead"


def test_a_process_that_is_gone_already_is_noticed_at_once() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    with DeathWatch([process.pid]) as watch:
        assert watch.wait(30)


def test_a_bell_ends_one_wait() -> None:
    with DeathWatch([]) as watch:
        threading.Thread(target=watch.ring).start()
        assert watch.wait(30)
        assert not watch.wait(0.01)


def test_waits_between_restarts_double_up_to_a_limit_and_old_failures_are_forgotten() -> None:
    now = [0.0]
    policy = RestartPolicy(max_restarts=5, window_s=120, first_delay_s=2, max_delay_s=5)
    budget = RestartBudget("server", policy, lambda: now[0])

    assert [budget.spend(DIED) for _ in range(5)] == [0, 2, 4, 5, 5]
    with pytest.raises(EngineError, match=r"failed 6 times in 2 min .* model x has died"):
        budget.spend(DIED)
    now[0] = 121.0
    assert budget.spend(DIED) == 0


def test_a_death_is_noticed_where_the_kernel_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_: int) -> NoReturn:
        raise PermissionError("pidfd_open")

    monkeypatch.setattr(os, "pidfd_open", forbid)
    process = subprocess.Popen(SLEEP)
    with DeathWatch([process.pid]) as watch:
        assert not watch.wait(0.01)
        watch.ring()
        assert watch.wait(60)
        assert not watch.wait(0.01)
        process.kill()
        assert watch.wait(60)
        process.wait()
        assert watch.wait(60), "it stays dead"


def test_no_restarts_at_all_may_be_allowed() -> None:
    with pytest.raises(EngineError, match="server failed once and is not started again"):
        RestartBudget("server", RestartPolicy(max_restarts=0)).spend(DIED)


def refuse() -> NoReturn:
    raise EngineError("the server did not speak")


def look(pulse: Pulse) -> str | None:
    ended = threading.Event()
    pulse.look(ended.set)
    ended.wait(0.3)
    return pulse.trouble


def test_a_server_that_sends_audio_is_not_asked() -> None:
    counts = iter([1.0, 2.0])
    assert look(Pulse(refuse, lambda: next(counts))) is None


def test_a_probe_that_had_to_wait_behind_others_is_no_trouble() -> None:
    counts = iter([1.0, 1.0, 2.0])
    assert look(Pulse(refuse, lambda: next(counts))) is None


@pytest.mark.parametrize("count", [lambda: 1.0, lambda: None])
def test_silence_is_trouble(count: Callable[[], float | None]) -> None:
    assert look(Pulse(refuse, count)) == "the server did not speak"
    assert look(Pulse(lambda: 1, count)) is None


def test_a_server_that_ends_in_mid_answer_tells_no_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_half(*_: object, **__: object) -> NoReturn:
        raise http.client.BadStatusLine("")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", open_half)
    assert read_audio_seconds("http://127.0.0.1:1/metrics") is None


class Server:
    """A process that sleeps."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.start_errors: list[Exception] = []
        self.speak: Callable[[float], object] = lambda timeout_s: 1

    def start(self) -> None:
        self.starts += 1
        if self.starts > 1 and self.start_errors:
            raise self.start_errors.pop()
        self.process = subprocess.Popen(SLEEP)

    def stop(self, *, force: bool = False, within_s: float | None = None) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def process_ids(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid]

    def failure(self) -> Failure | None:
        assert self.process is not None
        return None if self.process.poll() is None else DIED

    def audio_seconds(self) -> float | None:
        return 1.0


def supervise(server: Server, **options: Any) -> tuple[list[str], Callable[[], None]]:
    """Run a supervisor until its limit ends it; its lines, and how to wait for that."""
    lines: list[str] = []
    policy = RestartPolicy(max_restarts=2, first_delay_s=0.01)
    supervisor = Supervisor(server, None, policy=policy, report=lines.append, **options)
    server.start()

    def run() -> None:
        try:
            supervisor.run()
        except EngineError as error:
            lines.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return lines, lambda: thread.join(30)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def has_started(server: Server, times: int) -> bool:
    return server.starts == times and server.failure() is None


def test_what_dies_is_started_again_until_the_limit() -> None:
    server = Server()
    lines, join = supervise(server)
    for times in (1, 2, 3):
        wait_for(lambda times=times: has_started(server, times))
        assert server.process is not None
        server.process.kill()
    join()
    assert server.starts == 3
    assert lines.count("the server speaks again") == 2
    assert "the server failed 3 times" in lines[-1]


@pytest.mark.parametrize("error", [EngineError("no memory"), OSError(28, "no memory")])
def test_a_start_that_fails_counts_as_a_failure(error: Exception) -> None:
    server = Server()
    server.start_errors = [error, error]
    lines, join = supervise(server)
    assert server.process is not None
    server.process.kill()
    join()
    assert server.starts == 3
    assert "it did not start again:" in lines[-1]
    assert "no memory" in lines[-1]


def test_a_disk_that_is_full_for_a_while_costs_attempts_and_waits_and_no_more() -> None:
    server = Server()
    server.start_errors = [OSError(28, "No space left on device")]
    lines, join = supervise(server)
    assert server.process is not None
    server.process.kill()
    wait_for(lambda: has_started(server, 3))
    wait_for(lambda: "the server speaks again" in lines)
    assert lines[0].endswith("starting again now")
    assert lines[1] == (
        "it did not start again: [Errno 28] No space left on device; starting again in 0.01 s"
    )
    server.process.kill()
    join()
    assert "failed 3 times" in lines[-1]


class Door(Server):
    """A gateway that is a process that sleeps."""

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def exit_status(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def count_restart(self, reason: str) -> None:
        self.reason = reason


def test_a_gateway_that_the_system_cannot_start_is_tried_again() -> None:
    server, door, lines = Server(), Door(), []
    door.start_errors = [OSError(12, "Cannot allocate memory")]
    policy = RestartPolicy(max_restarts=2, first_delay_s=0.01)
    supervisor = Supervisor(server, cast(Any, door), policy=policy, report=lines.append)
    server.start()
    door.start()
    ended: list[EngineError] = []

    def run() -> None:
        try:
            supervisor.run()
        except EngineError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert door.process is not None
        door.process.kill()
        wait_for(lambda: "the gateway answers again" in lines)
        assert "did not start again: [Errno 12] Cannot allocate memory" in lines[1]
        assert server.starts == 1
        door.process.kill()
        thread.join(30)
        assert "HTTP gateway failed 3 times" in str(ended[0])
    finally:
        server.stop()


def test_a_server_that_lives_and_says_nothing_is_started_again() -> None:
    server = Server()
    server.speak = lambda timeout_s: refuse() if server.starts == 1 else 1
    looks: list[int] = []
    lines, join = supervise(server, probe_interval_s=0.05, tend=lambda: looks.append(1))
    wait_for(lambda: has_started(server, 2))
    assert "the server did not speak; starting again now" in lines
    assert looks
    server.start_errors = [EngineError("no")] * 9
    assert server.process is not None
    server.process.kill()
    join()
