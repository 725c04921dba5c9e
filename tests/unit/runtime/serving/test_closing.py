from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from fake_triton import FakeTriton

from duologue.runtime.serving.closing import closing, join_all

HANGS = """
import threading
from types import SimpleNamespace
from duologue.runtime.serving.closing import closing

def never_comes_back():
    threading.Event().wait()

logger = SimpleNamespace(log_info=lambda text: print(text, flush=True))
with closing("dialogue_tts", "2 streams are open", SimpleNamespace(Logger=logger), 0.5):
    never_comes_back()
"""


def test_a_model_tells_that_it_ends_and_when_it_has() -> None:
    triton = FakeTriton()

    with closing("dialogue_tts", "3 streams are open", triton):
        assert triton.log == ["dialogue_tts ends: 3 streams are open"]

    assert triton.log[1].startswith("dialogue_tts has ended after 0.")


def test_an_end_that_hangs_ends_the_process_and_shows_where_it_hung() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=100, check=False
    )

    assert ended.returncode == 1
    assert ended.stdout == "dialogue_tts ends: 2 streams are open\n"
    assert "never_comes_back" in ended.stderr


LINGERS = """
import atexit, threading
from duologue.runtime.serving.closing import bound_teardown

atexit.register(threading.Event().wait)
bound_teardown(0.5)
"""


def test_a_process_that_does_not_end_after_its_model_is_ended() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LINGERS], capture_output=True, text=True, timeout=100, check=False
    )

    assert ended.returncode == 1
    assert "threading.py" in ended.stderr


def test_a_failing_end_takes_the_timer_away() -> None:
    with pytest.raises(RuntimeError, match="cannot"), closing("m", "", FakeTriton(), 0.2):
        raise RuntimeError("cannot")

    time.sleep(0.4)  # with the timer still set, there would be no process to come back to


def test_threads_that_stay_are_waited_for_once_and_not_each() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    started_s = time.monotonic()
    try:
        assert join_all(threads, 0.2) == 50
        assert time.monotonic() - started_s < 5, "50 times 0.2 s would be 10"
    finally:
        stop.set()
    assert join_all(threads, 60) == 0
