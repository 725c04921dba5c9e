# SPDX-License-Identifier: Apache-2.0
"""A folder that stands for an AutoDL instance: a data disk, and the programs of the machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SHORT_S = 120


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@dataclass
class Instance:
    """A data disk, and the programs that the machine has."""

    data: Path
    programs: Path
    variables: dict[str, str] = field(default_factory=dict)
    ports: tuple[int, int, int] = (0, 0, 0)

    def command(self, script: str, *arguments: str) -> list[str]:
        names = ("--http-port", "--grpc-port", "--metrics-port")
        ports = [word for pair in zip(names, self.ports, strict=True) for word in map(str, pair)]
        return ["bash", str(self.data / script), *(ports if "deploy" in script else ()), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.data),
            "AUTODL_DATA": str(self.data),
            "AUTODL_TURBO": str(self.data / "turbo profile"),
            **self.variables,
        }

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SHORT_S,
            check=False,
        )

    def refused(self, script: str, *arguments: str) -> str:
        """The output of a run that must end with a fault."""
        done = self.run(script, *arguments)
        assert done.returncode == 1, done.stdout
        assert "fault:" in done.stdout
        return done.stdout

    def program(self, name: str, text: str) -> None:
        """Put a stand-in before the machine's own programs."""
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def answer(self) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/readyz") as reply:
            return dict(json.load(reply))


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, f"{name} is missing: make dev"
    return found
