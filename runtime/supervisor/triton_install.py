# SPDX-License-Identifier: Apache-2.0
"""Finds the tritonserver of this machine: an NVIDIA image's own, or the one in a wheel.

The wheel is nvidia-pytriton; its files are found without importing it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STUB_NAME = "triton_python_backend_stub"
IMAGE_DIR = Path("/opt/tritonserver")
IMAGE_VERSION = "NVIDIA_TRITON_SERVER_VERSION"
"""Variable by which NVIDIA's images tell their release, e.g. "26.07"."""


@dataclass(frozen=True, slots=True)
class TritonInstall:
    """Where an installed tritonserver keeps its parts.

    Attributes:
        server_dir: holds `bin/`, `backends/` and `caches/`.
        libs_dir: shared libraries that came with it.
        stub: the process that runs Python models; None takes the wheel's for the running Python.
    """

    server_dir: Path
    libs_dir: Path
    stub: Path | None = None

    @property
    def binary(self) -> Path:
        """The tritonserver executable."""
        return self.server_dir / "bin" / "tritonserver"

    @property
    def caches_dir(self) -> Path:
        """Cache implementations, for `--cache-directory`."""
        return self.server_dir / "caches"

    @property
    def is_image(self) -> bool:
        """It is the server of one of NVIDIA's images."""
        return self.stub is not None

    @property
    def python_backend_files(self) -> tuple[Path, ...]:
        """What a Python backend folder needs, with the stub of the running Python."""
        backend = self.server_dir / "backends" / "python"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.stub or self.server_dir / "python_backend_stubs" / version / STUB_NAME
        return (
            backend / "libtriton_python.so",
            backend / "triton_python_backend_utils.py",
            stub,
        )


def find_triton(environment: Mapping[str, str] | None = None) -> TritonInstall | None:
    """The tritonserver to start: that of the image around us, else that of the wheel.

    Args:
        environment: whose variables tell of an image; None takes the process's own.
    """
    values = os.environ if environment is None else environment
    if values.get(IMAGE_VERSION) and (IMAGE_DIR / "bin" / "tritonserver").is_file():
        stub = IMAGE_DIR / "backends" / "python" / STUB_NAME
        return TritonInstall(IMAGE_DIR, IMAGE_DIR / "lib", stub)
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(next(iter(spec.submodule_search_locations)))
    return TritonInstall(package / "tritonserver", package.parent / "nvidia_pytriton.libs")


def libpython_dir() -> Path:
    """The folder in which the running interpreter says its shared library lies."""
    return Path(str(sysconfig.get_config_var("LIBDIR") or "/usr/lib"))
