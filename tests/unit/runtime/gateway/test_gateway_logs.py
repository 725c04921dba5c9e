from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_gateway import Gateway, wait_for

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway import logs
from duologue.runtime.gateway.logs import log_event, num_dropped_lines, set_up_logging
from duologue.runtime.gateway.setting_groups import LoggingSettings

# The platform's own line of log analysis.
AVERAGE = "grep \"synthesis_time\" {} | awk '{{sum+=$4; count++}} END {{print sum/count}}'"


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    yield
    for name in logs.LOGGERS:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


def lines_of(path: Path, count: int) -> list[str]:
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return path.read_text().splitlines()


def test_each_event_is_one_object_with_its_request_id(
    open_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "http.log"
    set_up_logging(LoggingSettings(file=path))
    gateway = open_gateway()
    gateway.call(
        "/v1/audio/speech",
        {"model": "tts-1", "input": "My secret."},
        headers={"X-Request-Id": "abc-1"},
    )
    wait_for(lambda: "synthesis_time" in path.read_text())
    told = [json.loads(line) for line in path.read_text().splitlines()]
    (spoken,) = [line for line in told if "synthesis_time" in line["message"]]
    assert (spoken["request_id"], spoken["door"], spoken["outcome"]) == ("abc-1", "speech", "ok")
    assert spoken["audio_s"] == 1.5
    assert "secret" not in path.read_text()


def test_text_is_written_only_when_told_so(
    open_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    path = tmp_path / "http.log"
    told = {"file": path, "with_text": True}
    set_up_logging(LoggingSettings(**told))
    open_gateway(logging=told).speak("My secret.")
    wait_for(lambda: '"script": "[S1]My secret."' in path.read_text())


def test_the_platforms_line_of_log_analysis_works(tmp_path: Path) -> None:
    path = tmp_path / "http.log"
    set_up_logging(LoggingSettings(file=path, format="plain"))
    for seconds in (1.0, 2.0):
        log_event(logging.INFO, f"{seconds:.3f} synthesis_time", outcome="ok")
    log_event(logging.ERROR, "failed", reason="a b\nc")
    assert lines_of(path, 3)[2].endswith('[ERROR] failed reason="a b\\nc"')
    answer = subprocess.run(
        ["sh", "-c", AVERAGE.format(path)], capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) == 1.5


def test_the_file_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "http.log"
    handler = set_up_logging(LoggingSettings(file=path, max_size="1KB", backup_count=2))
    for _ in range(100):
        log_event(logging.INFO, "x" * 50)
    handler.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["http.log", "http.log.1", "http.log.2"]
    assert path.stat().st_size <= 1000


def test_a_traceback_stays_within_its_line(tmp_path: Path) -> None:
    path = tmp_path / "http.log"
    set_up_logging(LoggingSettings(file=path))
    try:
        raise RuntimeError("lost")
    except RuntimeError as error:
        log_event(logging.ERROR, "failed", error=error)
    assert "RuntimeError: lost" in json.loads(lines_of(path, 1)[0])["traceback"]


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    set_up_logging(LoggingSettings(file=pipe))
    done = threading.Event()

    def write() -> None:
        for _ in range(200):
            log_event(logging.INFO, "x" * 5000)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(10)
    assert num_dropped_lines() > 0
    os.close(reader)


def test_a_full_disk_is_counted_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LoggingSettings(file=Path("/dev/full")))
    log_event(logging.INFO, "lost")
    wait_for(lambda: num_dropped_lines() == 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fields", [{"file": "/proc/x/y"}, {"format": "%(message)s %(broken"}])
def test_what_cannot_be_written_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        set_up_logging(LoggingSettings(**fields))
