"""F16, F17: a machine that is too small, and starts that are slow or cannot be."""

from __future__ import annotations

import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Judge
from live_serve import LiveServe, serving

pytestmark = pytest.mark.usefixtures("needs_triton")


def test_f16_little_shared_memory_is_refused(
    needs_mounts: None, judge: Judge, tmp_path: Path
) -> None:
    mount = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'
    start = time.monotonic()
    server = LiveServe(tmp_path, prefix=("unshare", "-m", "sh", "-c", mount, "sh"))
    try:
        status = server.wait(120)
        took_s = time.monotonic() - start
        told = "".join(server.lines)
        judge("F16", "16 MB of /dev/shm: refused", f"status {status}, {took_s:.0f} s", status == 1)
        judge("F16", "the text names the reason", told[:28], "/dev/shm has 1" in told)
    finally:
        server.close()


def test_f16_few_open_files(judge: Judge, tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    prefix = ("sh", "-c", 'ulimit -n 256 && exec "$@"', "sh")
    with serving(tmp_path, prefix=prefix) as server, ThreadPoolExecutor(64) as pool:
        assert hard >= 256
        start = time.monotonic()
        answers = list(
            pool.map(lambda i: server.speak("[S1]Hi.", seed=i, max_new_tokens=20), range(64))
        )
        took_s = time.monotonic() - start
        statuses = sorted({answer.status for answer in answers})
        holds = set(statuses) <= {200, 503}
        judge("F16", "256 files, 64 streams: 200 or 503", f"{statuses}, {took_s:.0f} s", holds)
        assert server.speak("[S1]Hi.", max_new_tokens=10).status == 200


def test_f16_one_processor(judge: Judge, tmp_path: Path) -> None:
    prefix = ("taskset", "-c", "0")
    with serving(tmp_path, prefix=prefix) as server:
        status = server.speak("[S1]Hi.", max_new_tokens=20).status
        judge("F16", "one processor: it speaks", str(status), status == 200)


def test_f17_a_slow_start_is_alive_and_says_why_it_is_not_ready(
    judge: Judge, tmp_path: Path
) -> None:
    server = LiveServe(tmp_path)
    seen: dict[tuple[int, int], list[str]] = {}
    try:
        deadline = time.monotonic() + 120
        while (200, 200) not in seen:
            assert time.monotonic() < deadline, server.lines
            ready, reasons = server.ask_ready()
            if ready:
                seen.setdefault((server.call("/livez").status, ready), reasons)
            time.sleep(0.02)
        server.wait_until_ready()
    finally:
        server.close()
    reasons = seen.get((200, 503), [])
    judge("F17", "loading: alive, 503 with the reason", str(reasons[:1]), reasons != [])


@pytest.mark.parametrize("door", ["--grpc-port", "--http-port"])
def test_f17_a_port_that_is_taken(judge: Judge, tmp_path: Path, door: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = LiveServe(tmp_path, f"{door}={taken.getsockname()[1]}")
        try:
            status = server.wait(120)
            told = "".join(server.lines)
            judge("F17", f"{door} is taken: status 2", f"{status}, {told[10:40]}", status == 2)
            assert "cannot be used" in told
        finally:
            server.close()


def test_f17_an_engine_that_cannot_run_here(judge: Judge, tmp_path: Path) -> None:
    server = LiveServe(tmp_path, "--engine=trtllm")
    try:
        status = server.wait(120)
        told = "".join(server.lines)
        holds = status in (1, 2) and "Traceback" not in told and "trtllm" in told
        judge("F17", "a wrong engine: a clear end", f"{status}, {told[10:40]}", holds)
    finally:
        server.close()
