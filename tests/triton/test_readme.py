"""The code and the commands of the README, run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.strip()
    for line in README.splitlines()
    if line.startswith("    .venv/bin/duologue say") and "path/to" not in line
]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder in which the README's relative paths lead where they do in a checkout."""
    for name in ("models", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_readme_shows_client_asyncio_and_library() -> None:
    assert len(BLOCKS) == 3
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=["client", "asyncio", "library"])
def test_a_block_of_python_runs(door: Any, desk: Path, block: str) -> None:
    code = block.replace("localhost:8001", door.url)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=desk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if "talk.wav" in block:
        assert soundfile.info(desk / "talk.wav").frames > 24_000


@pytest.mark.parametrize("command", COMMANDS, ids=["script", "text"])
def test_a_command_line_speaks(desk: Path, command: str) -> None:
    _, *arguments = shlex.split(command)
    run = subprocess.run(
        [sys.executable, "-m", "duologue.cli", *arguments],
        cwd=desk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = arguments[arguments.index("-o") + 1]
    assert soundfile.info(desk / written).duration > 1.0
