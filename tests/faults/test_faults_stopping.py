"""F14: SIGTERM with streams, with an idle caller, with a dead model; and SIGTERM twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from conftest import Judge
from live_gateway import wait_for
from live_serve import VERY_LONG, LiveServe, dialogue, serving
from slow_answer import answer_of

GRACE_S = 20
SLACK_S = 5
pytestmark = pytest.mark.usefixtures("needs_triton")


def judge_end(judge: Judge, server: LiveServe, what: str, began_s: float, bound_s: float) -> None:
    """Hold the end of a server to its bounds: in time, status 0, nothing left."""
    processes = server.started()
    status = server.wait(120)
    took_s = time.monotonic() - began_s
    judge("F14", f"{what}: gone in time", f"{took_s:.1f} s of {bound_s:g} s", took_s <= bound_s)
    judge("F14", f"{what}: exit status 0", str(status), status == 0)
    wait_for(lambda: not server.leftovers(processes), 10)
    judge("F14", f"{what}: nothing left behind", "nothing", not server.leftovers(processes))


def test_f14_running_streams_are_finished(judge: Judge, tmp_path: Path) -> None:
    body = dialogue(max_new_tokens=40)
    with serving(tmp_path, f"--grace={GRACE_S}") as server, ThreadPoolExecutor(32) as pool:
        first = [server.open("/v1/audio/dialogue", {**body, "seed": i}) for i in range(32)]
        heads = [answer.read(1000) for answer in first]
        rest = [pool.submit(answer.read) for answer in first]
        server.signal(signal.SIGTERM)
        start = time.monotonic()
        unready, refused = [], []

        def look() -> None:
            while server.process.poll() is None:
                status, reasons = server.ask_ready()
                if status == 503:
                    unready.append(reasons)
                    refused.append(server.speak("Hi.").status)
                    return

        looking = threading.Thread(target=look)
        looking.start()
        judge_end(judge, server, "32 streams", start, GRACE_S + SLACK_S)
        looking.join()
        sizes = [len(head) + len(piece.result()) for head, piece in zip(heads, rest, strict=True)]
        for answer in first:
            answer.close()
        whole = sum(size == max(sizes) for size in sizes)
        judge("F14", "32 streams: all are finished", f"{whole} of 32 whole", whole == 32)
        told = f"{unready[0]}" if unready else "not seen"
        judge("F14", "32 streams: not ready first", told[:28], unready != [])
        judge("F14", "32 streams: new ones refused", str(refused), refused == [503])


def test_f14_a_stream_longer_than_the_grace_time_is_told(judge: Judge, tmp_path: Path) -> None:
    body = {"input": VERY_LONG, "stream_format": "ndjson", "response_format": "pcm"}
    with serving(tmp_path, "--grace=2") as server:
        with server.open("/v1/audio/dialogue", body) as answer:
            answer.readline()
            server.signal(signal.SIGTERM)
            start = time.monotonic()
            last = answer.read().splitlines()[-1]
        judge_end(judge, server, "too long a stream", start, 2 + SLACK_S)
        is_typed = b"server_restarting" in last
        judge("F14", "too long a stream: a typed error", last[:28].decode(), is_typed)


def test_f14_an_idle_caller_and_a_dead_model_hold_nobody_up(judge: Judge, tmp_path: Path) -> None:
    with serving(tmp_path / "idle", "--grace=5") as server:
        caller = triton.InferenceServerClient(server.facts["grpc_url"])
        caller.start_stream(lambda result, error: None)
        assert caller.is_server_ready()
        server.signal(signal.SIGTERM)
        judge_end(judge, server, "idle open stream", time.monotonic(), 5 + SLACK_S)
        caller.close()
    with serving(tmp_path / "dead", "--grace=5") as server:
        server.signal(signal.SIGSTOP)  # so that it finds the death and the signal together
        os.kill(server.stub("codec_decoder"), signal.SIGKILL)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        judge_end(judge, server, "dead model", time.monotonic(), 5 + SLACK_S)


def test_f14_a_second_signal_does_not_wait(judge: Judge, tmp_path: Path) -> None:
    with serving(tmp_path, "--grace=600") as server, answer_of(server, dialogue()):
        processes = server.started()
        server.signal(signal.SIGTERM)
        wait_for(lambda: server.ask_ready()[0] == 503, 30)
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.wait(60)
        took_s = time.monotonic() - start
        told = f"{took_s:.1f} s of 600 s"
        judge("F14", "second SIGTERM: does not wait", told, took_s <= 2 * SLACK_S)
        assert status != 0
        wait_for(lambda: not server.leftovers(processes), 10)


def test_f14_the_death_of_the_parent_ends_all(judge: Judge, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        processes = server.started()
        server.signal(signal.SIGKILL)
        server.wait(10)
        start = time.monotonic()
        states = len(list((tmp_path / "run" / "duologue").iterdir()))

        def is_gone() -> bool:
            # A file in the state folder cannot be removed by the dead; readers recognise it.
            return len(server.leftovers(processes)) <= states

        wait_for(is_gone, 60)
        took_s = time.monotonic() - start
        judge("F14", "kill -9 of serve: all ends <= 20 s", f"{took_s:.1f} s", took_s <= 20)
