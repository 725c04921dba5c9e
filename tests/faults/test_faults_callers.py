"""F03, F04, F05: callers leave, storm and dawdle."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Judge
from live_gateway import wait_for
from live_serve import LiveServe, dialogue
from slow_answer import answer_of

from duologue.client import DialogueClient

STALL_S = 20
SETTINGS = {"api": {"stall_timeout": STALL_S, "max_streams": 200}}
# The answer of 2 min of audio is 11 MB at this rate: more than all buffers on the way hold.
SLOW = dialogue(sample_rate=48000)
SUPPORT = Path(__file__).resolve().parents[1] / "support"
READER = """
import sys, time, urllib.request
request = urllib.request.Request(sys.argv[1] + "/v1/audio/dialogue", data=sys.argv[2].encode())
request.add_header("Content-Type", "application/json")
with urllib.request.urlopen(request) as answer:
    answer.read(1000)
    print("reading", flush=True)
    time.sleep(600)
"""


def is_busy(server: LiveServe) -> bool:
    return server.metrics()["duologue_active_streams"] == 1


def leave(server: LiveServe) -> Callable[[], None]:
    connection = ExitStack()
    connection.enter_context(answer_of(server, SLOW))
    return connection.close


def wait_until_held_back(server: LiveServe) -> None:
    """Wait until all buffers on the way to the callers are full, and the model waits for them."""
    made: list[float] = []

    def has_settled() -> bool:
        time.sleep(0.3)
        made.append(server.metrics()["duologue_audio_seconds_total"])
        return len(made) > 5 and made[-1] == made[-5]

    wait_for(has_settled, 120)


def leave_unread(server: LiveServe) -> Callable[[], None]:
    end = leave(server)
    wait_until_held_back(server)
    return end


def reset(server: LiveServe) -> Callable[[], None]:
    stack = ExitStack()
    answer = stack.enter_context(answer_of(server, SLOW))
    answer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return stack.close


def kill(server: LiveServe) -> Callable[[], None]:
    command = [sys.executable, "-c", READER, server.url, json.dumps(SLOW)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"reading\n"
    reader.stdout.close()

    def end() -> None:
        os.kill(reader.pid, signal.SIGKILL)
        reader.wait()

    return end


def cancel(server: LiveServe) -> Callable[[], None]:
    client = DialogueClient(server.facts["grpc_url"])
    stream = client.stream("[S1]And so on and on.", max_frames=1500, max_ahead_s=1)
    next(stream)
    return stream.close


@pytest.mark.parametrize(
    "go", [leave, leave_unread, reset, kill, cancel], ids=lambda go: go.__name__
)
def test_f03_a_caller_who_goes_frees_the_slot(
    server: LiveServe, judge: Judge, go: Callable[[LiveServe], Callable[[], None]]
) -> None:
    took_s = []
    for _ in range(5):
        end = go(server)
        wait_for(lambda: is_busy(server), 60)
        start = time.monotonic()
        end()
        wait_for(server.is_idle, 60)
        took_s.append(time.monotonic() - start)
        made_s = server.metrics()["duologue_audio_seconds_total"]
        time.sleep(0.3)
        assert server.metrics()["duologue_audio_seconds_total"] == made_s, "it was still made"
    # The best of five: other work on the machine may hold up any one of them.
    best_s = min(took_s)
    judge("F03", f"{go.__name__}: slot free <= 250 ms", f"{best_s * 1000:.0f} ms", best_s <= 0.25)


def test_f03_a_caller_who_takes_nothing_is_given_up(server: LiveServe, judge: Judge) -> None:
    with answer_of(server, SLOW):
        wait_for(lambda: is_busy(server), 60)
        start = time.monotonic()
        wait_for(server.is_idle, 180)
        took_s = time.monotonic() - start
    late = server.metrics()['duologue_http_watchdog_total{reason="reader"}']
    judge("F03", f"half open: given up after {STALL_S} s", f"{took_s:.0f} s", took_s <= 60)
    judge("F05", "a stalled reader is counted", f"{late:g}", late >= 1)


def storm(server: LiveServe, count: int) -> None:
    """Start streams and cancel each after its first chunk, or before."""
    with DialogueClient(server.facts["grpc_url"]) as client, ThreadPoolExecutor(16) as pool:

        def begin_and_cancel(i: int) -> None:
            with client.stream("[S1]Stop!", seed=i, max_frames=200) as stream:
                if i % 2:
                    next(stream)

        list(pool.map(begin_and_cancel, range(count)))


def test_f04_a_storm_of_cancels_leaves_nothing(server: LiveServe, judge: Judge) -> None:
    storm(server, 500)  # pools and buffers are filled once
    wait_for(server.is_idle)
    rss, shm = server.rss_bytes(), server.shm_bytes()
    start = time.monotonic()
    storm(server, 500)
    took_s = time.monotonic() - start
    idle_s = server.wait_until(server.is_idle)
    told = f"{idle_s:.2f} s ({took_s:.0f} s of storm)"
    judge("F04", "500 cancels: idle after 1 s", told, idle_s <= 1)
    grown = server.rss_bytes() / rss - 1
    judge("F04", "memory back within 5 %", f"{grown:+.1%}", grown <= 0.05)
    # A pool grows by steps when it is first needed; then it has to stay as it is.
    for _ in range(3):
        shm_grown = server.shm_bytes() / shm - 1
        if shm_grown <= 0.05:
            break
        shm = server.shm_bytes()
        storm(server, 500)
    judge("F04", "shared memory back within 5 %", f"{shm_grown:+.1%}", shm_grown <= 0.05)


# Each holds one of the model's 32 slots while it reads nothing; the neighbour needs another.
NUM_SLOW = 24
NEIGHBOUR = dialogue(input="[S1]" + "A good neighbour. " * 20, seed=3, max_new_tokens=150)


def neighbour_s(server: LiveServe) -> float:
    start = time.monotonic()
    answer = server.talk(**NEIGHBOUR)
    assert answer.status == 200
    assert len(answer.body) > 100_000
    return time.monotonic() - start


@contextmanager
def slow_readers(server: LiveServe) -> Iterator[None]:
    """Callers who take nothing any more, once the model waits for them."""
    with ExitStack() as readers, ThreadPoolExecutor(NUM_SLOW) as pool:
        answers = [answer_of(server, {**SLOW, "seed": i}) for i in range(NUM_SLOW)]
        list(pool.map(readers.enter_context, answers))
        wait_until_held_back(server)
        yield
    wait_for(server.is_idle, 60)


def test_f05_slow_readers_take_no_memory_and_no_time_of_others(
    server: LiveServe, judge: Judge
) -> None:
    with slow_readers(server):
        pass  # the cache of keys and values of so many slots has been touched once
    alone_s = min(neighbour_s(server) for _ in range(3))
    rss = server.rss_bytes()
    with slow_readers(server):
        beside_s = min(neighbour_s(server) for _ in range(3))
        grown = (server.rss_bytes() - rss) / NUM_SLOW / 1e6
    judge("F05", "memory per slow reader <= 2 MB", f"{grown:.2f} MB", grown <= 2)
    slower = beside_s / alone_s
    judge("F05", "a neighbour takes as long as alone", f"x {slower:.2f}", slower <= 1.5)
