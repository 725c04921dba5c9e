# SPDX-License-Identifier: Apache-2.0
"""The scripts for AutoDL with a tiny pack: from zips to a running service, and every fault.

All folders have a space in their names. The whole way with the real packages, in a network
namespace without a network, is `make deploy-test`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from autodl_stub import SCRIPTS, make_wheels, write_wheel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts are for Linux")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SHORT_S = 120


@pytest.fixture(scope="module")
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


@pytest.fixture
def instance(pack: Path, tmp_path: Path) -> Iterator[Instance]:
    data, programs = tmp_path / "data disk", tmp_path / "programs"
    shutil.copytree(pack, data, copy_function=shutil.copy2)
    programs.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python3", f"python{VERSION}"):
        (programs / name).symlink_to(base)
    here = Instance(data, programs, ports=(free_port(), free_port(), free_port()))
    yield here
    here.run("stop.sh")


def test_from_two_zips_to_a_service_that_a_second_run_leaves_alone(instance: Instance) -> None:
    (instance.data / "turbo profile").write_text("export http_proxy=http://127.0.0.1:9\n")
    first = instance.run("autodl_deploy.sh", "--wait", "60")
    assert first.returncode == 0, first.stdout
    key_file = instance.data / "duologue" / "api_key"
    key = key_file.read_text().strip()
    assert key in first.stdout
    assert f"ssh -CNg -L {instance.ports[0]}:127.0.0.1:{instance.ports[0]}" in first.stdout
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key not in (instance.data / "duologue" / "logs" / "deploy.log").read_text()
    answer = instance.answer()
    assert answer["keys"] == [
        "autodl",
        hashlib.sha256(key.encode()).hexdigest(),
        "scopes=speak,voices,admin",
    ]
    assert dict(answer["options"])["--host"] == "0.0.0.0"  # type: ignore[call-overload]

    second = instance.run("deploy.sh")
    assert second.returncode == 0, second.stdout
    assert second.stdout.count("[skip]") == 5, second.stdout
    assert key in second.stdout

    status = instance.run("status.sh")
    assert (status.returncode, "ready" in status.stdout) == (0, True), status.stdout
    assert "stopped after" in instance.run("stop.sh").stdout
    assert instance.run("status.sh").returncode == 1
    assert not (instance.data / "duologue" / "packages").exists()


def test_uv_is_used_where_it_is(instance: Instance) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    (instance.programs / "uv").symlink_to(uv)
    done = instance.run("deploy.sh", "--no-start")
    assert done.returncode == 0, done.stdout
    assert "making the environment with uv" in done.stdout
    assert (instance.data / "duologue" / "environment" / "bin" / "mpirun").is_file()


def test_an_installation_that_was_killed_is_taken_up_again(instance: Instance) -> None:
    process = subprocess.Popen(
        instance.command("deploy.sh", "--no-start"),
        env=instance.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "making the environment" in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    environment = instance.data / "duologue" / "environment"
    assert not (environment / ".done").exists()
    again = instance.run("deploy.sh", "--no-start")
    assert again.returncode == 0, again.stdout
    assert "[skip] check offline_packages.zip" in again.stdout
    assert "[step] install the packages" in again.stdout
    assert (environment / "bin" / "mpirun").is_file()


@pytest.mark.parametrize("name", ["offline_packages.zip", "pretrained_models.zip"])
def test_a_zip_that_is_missing_is_named(instance: Instance, name: str) -> None:
    (instance.data / name).unlink()
    assert f"{instance.data / name} is missing" in instance.refused("deploy.sh")


@pytest.mark.parametrize("name", ["offline_packages.zip", "pretrained_models.zip"])
def test_a_zip_that_was_cut_short_is_named_with_both_sizes(instance: Instance, name: str) -> None:
    path = instance.data / name
    size = path.stat().st_size
    os.truncate(path, size - 100)
    said = instance.refused("deploy.sh")
    assert f"{path} has {size - 100} bytes, and {size} were packed" in said
    assert f'stopped in the step "check {name}"' in said


def test_a_zip_of_another_hash_is_refused(instance: Instance) -> None:
    path = instance.data / "pretrained_models.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "the right size and the wrong sha256" in instance.refused("deploy.sh")


def test_without_the_pack_file_a_damaged_zip_is_found_while_it_is_unpacked(
    instance: Instance,
) -> None:
    (instance.data / "duologue_pack.txt").unlink()
    path = instance.data / "pretrained_models.zip"
    path.write_bytes(path.read_bytes().replace(b"weightsweights", b"Weightsweights", 1))
    said = instance.refused("deploy.sh", "--no-start", "--python", VERSION)
    assert "lm.onnx is damaged" in said
    assert 'stopped in the step "unpack the models"' in said


@pytest.mark.parametrize(("disk", "name"), [("data disk", "data"), ("/tmp", "system")])
def test_a_full_disk_is_found_before_anything_is_unpacked(
    instance: Instance, disk: str, name: str
) -> None:
    instance.program(
        "df",
        f'case "$*" in *"{disk}"*) echo head; echo "disk 1000000 999 1000 99% /a b" ;;'
        ' *) exec /usr/bin/df "$@" ;; esac',
    )
    instance.variables["TMPDIR"] = "/tmp"
    said = instance.refused("deploy.sh")
    assert f"the {name} disk" in said
    assert "has 0.0 MiB free" in said
    assert not (instance.data / "duologue" / "environment").exists()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_port_that_is_taken_is_named(instance: Instance, index: int) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", instance.ports[index]))
        door.listen()
        said = instance.refused("deploy.sh")
    assert f"port {instance.ports[index]} on" in said
    assert "[step] start the service" not in said


def test_a_service_that_ends_by_itself_shows_its_last_lines(instance: Instance) -> None:
    instance.variables["STUB_FAULT"] = "1"
    said = instance.refused("deploy.sh")
    assert "the stub was told to fail" in said
    assert "the service ended by itself" in said


def test_a_bundle_that_was_changed_before_it_was_packed_is_refused(instance: Instance) -> None:
    _write_zip(instance.data / "pretrained_models.zip", {"b/bundle.json": "broken"})
    (instance.data / "duologue_pack.txt").unlink()
    said = instance.refused("deploy.sh", "--python", VERSION)
    assert "was not made by pack.sh" in said
    assert "lm.onnx differs from what was built" in said


def test_the_models_of_cosyvoice_are_recognised_and_what_is_missing_is_named(
    instance: Instance,
) -> None:
    (instance.data / "duologue_pack.txt").unlink()
    names = ("CosyVoice2-0.5B/llm.pt", "CosyVoice2-0.5B/cosyvoice2.yaml", "CosyVoice-ttsfrd/a.whl")
    _write_zip(
        instance.data / "pretrained_models.zip",
        {f"pretrained_models/{name}": "x" for name in names},
    )
    said = instance.refused("deploy.sh", "--python", VERSION)
    assert "pretrained_models.zip holds a CosyVoice model" in said
    assert "missing in pretrained_models.zip: a bundle" in said
    assert "the language model of MOSS-TTSD" in said
    assert "the codec XY-Tokenizer" in said
    done = instance.run("deploy.sh", "--bundle", "default", "--no-start", "--python", VERSION)
    assert done.returncode == 0, done.stdout


def test_the_packages_of_another_project_are_recognised(instance: Instance, tmp_path: Path) -> None:
    (instance.data / "duologue_pack.txt").unlink()
    wheels = tmp_path / "theirs"
    wheels.mkdir()
    write_wheel(wheels, "torch", "2.7.0", {"torch/__init__.py": ""})
    _write_zip_of(wheels, instance.data / "offline_packages.zip")
    said = instance.refused("deploy.sh", "--python", VERSION)
    assert "has no wheel of duologue" in said


def test_wheels_without_a_manifest_are_used_with_a_warning(
    instance: Instance, tmp_path: Path
) -> None:
    (instance.data / "duologue_pack.txt").unlink()
    wheels = tmp_path / "theirs"
    own = make_wheels(wheels)
    shutil.move(own, instance.data)  # beside the zip, as the fault says
    write_wheel(wheels, "old", "1", {"old.py": ""}, tags="cp38-cp38-linux_x86_64")
    numpy = wheels / "numpy-1.26.4-py3-none-any.whl"
    kept = numpy.rename(tmp_path / numpy.name)
    _write_zip_of(wheels, instance.data / "offline_packages.zip")
    assert "lacks packages that duologue needs: numpy" in instance.refused(
        "deploy.sh", "--no-start", "--python", VERSION
    )
    kept.rename(numpy)
    _write_zip_of(wheels, instance.data / "offline_packages.zip")
    done = instance.run("deploy.sh", "--no-start", "--python", VERSION)
    assert done.returncode == 0, done.stdout
    assert "used as far as it fits" in done.stdout
    assert "left alone: old-1-cp38-cp38-linux_x86_64.whl" in done.stdout


def test_another_python_than_that_of_the_pack_is_refused(instance: Instance) -> None:
    pack_file = instance.data / "duologue_pack.txt"
    pack_file.write_text(pack_file.read_text().replace(f"python {VERSION}", "python 3.99"))
    assert "the pack is for Python 3.99, which is not here" in instance.refused("deploy.sh")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--ranks", "0"), "RANKS is '0'"),
        (("--http-port", "70000"), "HTTP_PORT is 70000"),
        (("--engine", "warp"), "--engine is warp"),
        (("--rank", "1"), "unknown option: --rank"),
        (("--ranks",), "--ranks needs a value"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    instance: Instance, options: tuple[str, ...], fault: str
) -> None:
    assert fault in instance.refused("deploy.sh", *options)


def _write_zip(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def _write_zip_of(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"offline_packages/{file.name}")
