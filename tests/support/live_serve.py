"""`duologue serve` as a process of its own, on free ports and with files of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

from duologue.runtime.supervisor.ports import free_port
from duologue.runtime.supervisor.state import process_started
from duologue.runtime.supervisor.stubs import find_stubs

START_TIMEOUT_S = 120
LONG = "[S1]" + "And so on. " * 80
VERY_LONG = "".join(f"[S{1 + i % 2}]" + "And so on and on and on. " * 6 for i in range(120))
"""More than ten minutes of it."""


class LiveServe(Gateway):
    """A running server, from outside.

    Attributes:
        facts: the line that it printed when it was ready.
        lines: of its standard error.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        settings: Mapping[str, Any] | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        reads_stderr: bool = True,
    ) -> None:
        """Start it; `wait_until_ready` waits."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.client = ScriptedClient()
        self.url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self.facts: dict[str, Any] = {}
        self.lines: list[str] = []
        config = folder / "settings.yaml"
        config.write_text(yaml.safe_dump(self._settings(settings or {})))
        ports = ("--grpc-port=0", f"--http-port={self.url.rpartition(':')[2]}", "--metrics-port=0")
        program = (sys.executable, "-m", "duologue.cli", "serve", "--bundle=noise", "--json")
        files = (f"--config={config}", f"--log={folder / 'triton.log'}")
        self.process = subprocess.Popen(
            [*prefix, *program, *ports, *files, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "XDG_RUNTIME_DIR": str(folder / "run"),
                "XDG_DATA_HOME": str(folder / "data"),
                "XDG_CACHE_HOME": str(folder / "cache"),
                **(environment or {}),
            },
        )
        self.pid = self.process.pid
        if reads_stderr:
            threading.Thread(target=self._read_lines, daemon=True).start()

    @staticmethod
    def _settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
        api = {"monitoring": {"health_check_interval": 3600}, **wanted.get("api", {})}
        return {**wanted, "api": api}

    def _read_lines(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def wait_until_ready(self) -> LiveServe:
        """Wait for its line, and until requests are let in."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.wait(10)}, {self.lines}"
        self.facts = json.loads(line)
        wait_for(self.is_ready, START_TIMEOUT_S)
        return self

    def ask_ready(self) -> tuple[int, list[str]]:
        """Status of `/readyz` and its reasons; 0 where nobody answers."""
        try:
            answer = self.call("/readyz")
        except OSError:
            return 0, []
        return answer.status, answer.json["reasons"]

    def is_ready(self) -> bool:
        return self.ask_ready()[0] == 200

    def stub(self, model: str) -> int:
        """Process of a model."""
        (found,) = (pid for pid, name in self.stubs().items() if name == model)
        return found

    def stubs(self) -> dict[int, str]:
        return find_stubs(f"duologue_{self.pid}_")

    @property
    def triton(self) -> int:
        """Process of tritonserver."""
        return psutil.Process(next(iter(self.stubs()))).ppid()

    @property
    def gateway(self) -> int:
        """Process of the HTTP gateway."""
        children = psutil.Process(self.pid).children()
        (found,) = (child.pid for child in children if _is_gateway(child))
        return found

    def processes(self) -> dict[int, str]:
        """All processes of this server: id -> what it is."""
        names = {self.pid: "serve", **self.stubs()}
        for child in psutil.Process(self.pid).children(recursive=True):
            if child.pid not in names:
                with suppress(psutil.NoSuchProcess):  # a zombie counts as none, too
                    names[child.pid] = "gateway" if _is_gateway(child) else child.name()
        return names

    def rss_bytes(self) -> int:
        """Resident memory of all processes, without what they share with Triton."""
        return sum(_own_bytes(pid) for pid in self.processes())

    def shm_bytes(self) -> int:
        """Shared memory that bears this server's name."""
        return sum(path.stat().st_size for path in self.regions())

    def regions(self) -> list[Path]:
        return list(Path("/dev/shm").glob(f"duologue_{self.pid}_*"))

    def metrics(self) -> dict[str, float]:
        """Our metrics: name with labels -> value."""
        with urllib.request.urlopen(self.facts["metrics_url"], timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("duologue_")]
        return {name: float(value) for name, value in pairs}

    def load(self) -> dict[str, float]:
        """Streams at the gateway and at the model, and sequences with and without a slot."""
        metrics = self.metrics()
        names = ("http_active_streams", "active_streams", "running_sequences", "queue_depth")
        return {name: metrics.get(f"duologue_{name}", 0) for name in names}

    def is_idle(self) -> bool:
        """No request is open and no slot is taken."""
        return not any(self.load().values())

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = 60) -> float:
        """Seconds until something holds."""
        start = time.monotonic()
        wait_for(holds, timeout_s)
        return time.monotonic() - start

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        return self.process.wait(timeout_s)

    def leftovers(self, processes: Mapping[int, int | None]) -> list[str]:
        """What of a server that has ended is still there; `processes` as `started` gave them."""
        alive = [
            str(pid)
            for pid, began in processes.items()
            if began is not None and process_started(pid) == began
        ]
        states = self.folder / "run" / "duologue"
        return alive + [str(path) for path in (*self.regions(), *states.glob("*"))]

    def started(self) -> dict[int, int | None]:
        """Its processes, with the times that tell them from later ones."""
        return {pid: process_started(pid) for pid in self.processes()}

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def serving(folder: Path, *options: str, **more: Any) -> Iterator[LiveServe]:
    """A server that is ready, for the length of the block."""
    server = LiveServe(folder, *options, **more)
    try:
        yield server.wait_until_ready()
    finally:
        server.close()


def dialogue(**fields: Any) -> dict[str, Any]:
    """A body that asks for a long dialogue as raw audio."""
    return {"input": LONG, "response_format": "pcm", "max_new_tokens": 1500, **fields}


def _is_gateway(process: psutil.Process) -> bool:
    return "duologue.runtime.gateway.child" in process.cmdline()


def _own_bytes(pid: int) -> int:
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - memory.shared)
