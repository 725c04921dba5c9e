# SPDX-License-Identifier: Apache-2.0
"""Zips that pack.sh has not made, and the text front end that comes with some of them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from autodl_instance import VERSION, Instance
from autodl_stub import make_wheels, write_wheel


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


def _write_zip(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def _write_zip_of(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"offline_packages/{file.name}")


def test_ttsfrd_is_the_front_end_when_its_wheel_and_its_resources_are_there(
    instance: Instance, tmp_path: Path
) -> None:
    (instance.data / "duologue_pack.txt").unlink()
    wheels = tmp_path / "theirs"
    make_wheels(wheels)
    minor = VERSION.split(".")[1]
    tags = f"cp3{minor}-cp3{minor}-linux_x86_64"
    engine = {"ttsfrd/__init__.py": "class TtsFrontendEngine: pass"}
    write_wheel(wheels, "ttsfrd", "0.4.2", engine, tags=tags)
    write_wheel(wheels, "ttsfrd_dependency", "0.1", {"ttsfrd_dependency.py": ""})
    _write_zip_of(wheels, instance.data / "offline_packages.zip")
    _write_zip(tmp_path / "resource.zip", {"resource/a.fst": "x"})
    with zipfile.ZipFile(instance.data / "pretrained_models.zip", "w") as archive:
        archive.writestr("bundle/bundle.json", "{}")
        archive.write(tmp_path / "resource.zip", "CosyVoice-ttsfrd/resource.zip")
    done = instance.run("deploy.sh", "--no-start", "--python", VERSION)
    assert done.returncode == 0, done.stdout
    folder = instance.data / "duologue" / "models" / "CosyVoice-ttsfrd" / "resource"
    assert f"numbers are written out by ttsfrd: {folder}" in done.stdout
    assert (folder / "a.fst").is_file()
