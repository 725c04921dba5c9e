from __future__ import annotations

import os
import platform
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from duologue.runtime.supervisor import requirements, triton_install
from duologue.runtime.supervisor.requirements import why_not_embedded
from duologue.runtime.supervisor.triton_install import TritonInstall, find_triton

Version = namedtuple("Version", "major minor")
Space = namedtuple("Space", "f_bavail f_frsize")


@pytest.fixture(autouse=True)
def everything_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system on which the server runs, whatever the tests run on."""
    wheel = TritonInstall(tmp_path / "tritonserver", tmp_path / "libs")
    for path in (wheel.binary, *wheel.python_backend_files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / f"libpython{version}.so.1.0").touch()
    here = (sys.version_info.major, sys.version_info.minor)
    monkeypatch.setattr(requirements, "PYTHONS", (here,))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(requirements, "find_triton", lambda: wheel)
    monkeypatch.setattr(requirements, "libpython_dir", lambda: tmp_path)
    monkeypatch.setattr(requirements, "SHM_DIR", tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: Space(1 << 20, 4096))


def test_nothing_is_missing_where_everything_fits() -> None:
    assert why_not_embedded() is None


@pytest.mark.parametrize(("system", "told"), [("Darwin", "Linux only, this is Darwin")])
def test_another_system_is_named(monkeypatch: pytest.MonkeyPatch, system: str, told: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)

    assert told in str(why_not_embedded())


def test_another_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    assert "this machine is aarch64" in str(why_not_embedded())


def test_another_python_is_named_with_the_one_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PYTHONS", ((3, 1),))

    assert "install python3.12" in str(why_not_embedded())


@pytest.mark.parametrize(
    ("libc", "told"),
    [(("glibc", "2.31"), "this system has 2.31"), (("", ""), "this system has none")],
)
def test_an_old_c_library_is_named(
    monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], told: str
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)

    assert told in str(why_not_embedded())


def test_a_missing_wheel_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_triton", lambda: None)

    reason = str(why_not_embedded())
    assert "nvidia-pytriton is not installed" in reason
    assert "duologue[cpu]" in reason


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "tritonserver" / "bin" / "tritonserver").unlink()

    assert "lacks tritonserver" in str(why_not_embedded())


def test_a_missing_libpython_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (library,) = tmp_path.glob("libpython*")
    library.unlink()
    monkeypatch.setattr(requirements.ctypes.util, "find_library", lambda _: None)

    reason = str(why_not_embedded())
    assert library.name in reason
    assert f"install {library.name.partition('.so')[0]}" in reason


def test_too_little_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Space(4096, 4096))

    assert "has 16 MiB free" in str(why_not_embedded())


def test_the_wheel_is_found_where_it_is_installed() -> None:
    wheel = find_triton()

    if wheel is None:
        pytest.skip("nvidia-pytriton is not installed")
    assert wheel.binary.is_file()


def test_the_server_of_an_image_goes_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_install, "IMAGE_DIR", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    found = find_triton({triton_install.IMAGE_VERSION: "26.07"})
    assert found is not None
    assert found.is_image
    assert found.binary == tmp_path / "bin" / "tritonserver"
    assert found.python_backend_files[2] == tmp_path / "backends/python" / triton_install.STUB_NAME


def test_a_variable_alone_makes_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_install, "IMAGE_DIR", tmp_path)
    found = find_triton({triton_install.IMAGE_VERSION: "26.07"})
    assert found is None or not found.is_image
