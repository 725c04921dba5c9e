# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from autodl_instance import SHORT_S, VERSION, Instance, free_port, tool
from autodl_stub import SCRIPTS, make_wheels

if sys.platform != "linux":
    collect_ignore_glob = ["test_autodl_*.py"]


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pack.sh leaves it."""
    root = tmp_path_factory.mktemp("pack")
    wheel = make_wheels(root / "wheels")
    bundle = root / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    (bundle / "lm.onnx").write_bytes(b"weights" * 1000)
    out = root / "to upload"
    options = ["--python", VERSION, "--bundle", bundle, "--out", out, "--wheel", wheel]
    links = ["--find-links", root / "wheels", "--no-index"]
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", SCRIPTS / "pack.sh", *options, *links],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": tools, "AUTODL_TURBO": "/nowhere", "TMPDIR": str(root)},
        timeout=SHORT_S,
    )
    return out


@pytest.fixture
def instance(pack: Path, tmp_path: Path) -> Iterator[Instance]:
    data, programs = tmp_path / "data disk", tmp_path / "programs"
    shutil.copytree(pack, data, copy_function=shutil.copy2)
    programs.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python3", f"python{VERSION}"):
        (programs / name).symlink_to(base)
    (programs / "uv").symlink_to(tool("uv"))
    here = Instance(data, programs, ports=(free_port(), free_port(), free_port()))
    yield here
    here.run("stop.sh")
