# SPDX-License-Identifier: Apache-2.0
"""deploy.sh with a tiny pack: from zips to a running service, and every fault on the way.

All folders have a space in their names. The whole way with the real packages, in a network
namespace without a network, is `make deploy-test`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from autodl_instance import VERSION, Instance


def test_from_two_zips_to_a_service_that_a_second_run_leaves_alone(instance: Instance) -> None:
    (instance.programs / "uv").unlink()
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
    done = instance.run("deploy.sh", "--no-start")
    assert done.returncode == 0, done.stdout
    assert "making the environment with uv" in done.stdout
    assert (instance.data / "duologue" / "environment" / "bin" / "mpirun").is_file()


def test_an_installation_that_was_killed_is_taken_up_again(instance: Instance) -> None:
    uv = instance.programs / "uv"
    real = uv.resolve()
    uv.unlink()
    instance.program("uv", "echo sleeping; sleep 100")
    process = subprocess.Popen(
        instance.command("deploy.sh", "--no-start"),
        env=instance.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "sleeping" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    uv.unlink()
    uv.symlink_to(real)
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


@pytest.mark.parametrize("name", ["data", "system"])
def test_a_full_disk_is_found_before_anything_is_unpacked(
    instance: Instance, tmp_path: Path, name: str
) -> None:
    system = tmp_path / "system disk"
    system.mkdir()
    instance.variables["TMPDIR"] = str(system)
    instance.program(
        "df",
        f'case "$*" in *"{name} disk") echo head; echo "disk 1000000 999 1000 99% /a b" ;;'
        ' *) exec /usr/bin/df "$@" ;; esac',
    )
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
