# SPDX-License-Identifier: Apache-2.0
"""The scripts themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from autodl_stub import SCRIPTS

DOORS = sorted(SCRIPTS.glob("*.sh"))
ALL = [*DOORS, *sorted((SCRIPTS / "lib").glob("*.sh"))]


@pytest.mark.parametrize("script", DOORS, ids=lambda path: path.name)
def test_a_script_can_be_run_and_stops_at_the_first_fault(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.name)
def test_no_fault_is_swallowed(script: Path) -> None:
    # The one use there is asks whether a program exists.
    found = re.findall(r".*\|\| true.*", script.read_text())
    assert all("command -v" in line for line in found), found


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.name)
def test_bash_reads_it(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs apt-get install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    names = [str(path.relative_to(SCRIPTS)) for path in ALL]
    done = subprocess.run(
        ["shellcheck", "-x", *names], cwd=SCRIPTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
