# SPDX-License-Identifier: Apache-2.0
"""Finds the parts of tritonserver inside the nvidia-pytriton wheel, without importing it."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

STUB_NAME = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class TritonWheel:
    """Where an installed nvidia-pytriton wheel keeps its tritonserver.

    Attributes:
        server_dir: holds `bin/`, `backends/`, `caches/` and `python_backend_stubs/`.
        libs_dir: shared libraries that came with the wheel.
    """

    server_dir: Path
    libs_dir: Path

    @property
    def binary(self) -> Path:
        """The tritonserver executable."""
        return self.server_dir / "bin" / "tritonserver"

    @property
    def caches_dir(self) -> Path:
        """Cache implementations, for `--cache-directory`."""
        return self.server_dir / "caches"

    @property
    def python_backend_files(self) -> tuple[Path, ...]:
        """What a Python backend folder needs, with the stub of the running Python."""
        backend = self.server_dir / "backends" / "python"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.server_dir / "python_backend_stubs" / version / STUB_NAME
        return (
            backend / "libtriton_python.so",
            backend / "triton_python_backend_utils.py",
            stub,
        )


def find_wheel() -> TritonWheel | None:
    """The wheel of this environment, or None when it is not installed."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(next(iter(spec.submodule_search_locations)))
    return TritonWheel(package / "tritonserver", package.parent / "nvidia_pytriton.libs")


def libpython_dir() -> Path:
    """The folder in which the running interpreter says its shared library lies."""
    return Path(str(sysconfig.get_config_var("LIBDIR") or "/usr/lib"))
