"""Images and compose files, as far as a machine without Docker can hold them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile*"))
COMPOSE_FILES = sorted(DOCKER.glob("compose*.yaml"))


def _run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_passes_its_linter_and_leaves_root(path: Path) -> None:
    lint = _run(_program("hadolint"), path)
    assert lint.returncode == 0, lint.stdout
    lines = path.read_text().splitlines()
    assert "USER 10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    # Two stages: what builds does not ship.
    assert sum(line.startswith("FROM") for line in lines) == 2


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_fits_the_specification(path: Path) -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    check = _run(_program("check-jsonschema"), *schema, path)
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_every_variable_is_explained_and_every_mounted_file_exists(path: Path) -> None:
    text = path.read_text()
    explained = set(re.findall(r"^([A-Z0-9_]+)=", (DOCKER / ".env.example").read_text(), re.M))
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    assert used - explained == set()
    for service in yaml.safe_load(text)["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith((".", "/")):
                assert (DOCKER / source).is_file(), source
        if "build" in service:
            build = service["build"]
            assert (DOCKER / build["context"] / build["dockerfile"]).is_file()


def test_only_tls_and_this_machine_reach_the_server() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(ports) == {"nginx", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in ports["grafana"])
    assert services["duologue"]["networks"] == ["inside"]


def test_megatts3_finds_what_it_had() -> None:
    service = yaml.safe_load((DOCKER / "compose.megatts3.yaml").read_text())["services"]["megatts3"]
    assert service["container_name"] == "ai-sound-megatts3"
    assert service["ports"] == ["9000:9000"]
    assert service["networks"] == ["ai-sound-network"]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"] == {"memory": "8G", "cpus": "4"}
    assert service["healthcheck"]["start_period"] == "120s"


def test_the_image_of_trtllm_names_what_is_not_mended_in_it() -> None:
    text = (DOCKER / "Dockerfile.trtllm").read_text()
    assert {"CVE-2026-24207", "CVE-2026-24208", "CVE-2026-24209"} <= set(
        re.findall(r"CVE-\d+-\d+", text)
    )


def test_the_scripts_pass_shellcheck() -> None:
    check = _run(_program("shellcheck"), "-S", "warning", *DOCKER.glob("*.sh"))
    assert check.returncode == 0, check.stdout


STAND_IN = """#!/bin/bash
echo "$@" >> "$CALLS"
image=$(sed -n 's/^DUOLOGUE_IMAGE=//p' "$ENV_FILE")
case "$*" in
    "image inspect missing:1") exit 1 ;;
    *" up "*) [ "$image" != "broken:1" ] ;;
    *" ps "*) echo container ;;
    inspect*) [ "$image" = "sick:1" ] && echo unhealthy || echo healthy ;;
esac
"""


@pytest.fixture
def upgrade(tmp_path: Path):
    """Runs upgrade.sh where `docker` notes how it is called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(STAND_IN)
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "my compose.yaml").write_text("services: {}\n")
    (tmp_path / ".env").write_text("DUOLOGUE_IMAGE=old:1\nOTHER=kept\n")
    (tmp_path / ".env").chmod(0o600)

    def run(image: str) -> subprocess.CompletedProcess[str]:
        return _run(
            DOCKER / "upgrade.sh",
            image,
            PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            CALLS=str(tmp_path / "calls"),
            COMPOSE_FILE=str(tmp_path / "my compose.yaml"),
            ENV_FILE=str(tmp_path / ".env"),
            BACKUP_DIR=str(tmp_path / "backups"),
            READY_TIMEOUT_S="2",
            STEP_S="1",
        )

    return run


def test_an_upgrade_backs_up_and_takes_the_new_image(upgrade, tmp_path: Path) -> None:
    run = upgrade("new:1")
    assert run.returncode == 0, run.stdout
    assert (tmp_path / ".env").read_text() == "OTHER=kept\nDUOLOGUE_IMAGE=new:1\n"
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    (backup,) = (tmp_path / "backups").iterdir()
    assert "old:1" in (backup / ".env").read_text()
    assert (backup / "my compose.yaml").is_file()


@pytest.mark.parametrize("image", ["sick:1", "broken:1"])
def test_an_image_that_does_not_get_healthy_is_rolled_back(upgrade, tmp_path, image: str) -> None:
    run = upgrade(image)
    assert run.returncode == 1
    assert "went back; nothing has changed" in run.stdout
    assert (tmp_path / ".env").read_text() == "DUOLOGUE_IMAGE=old:1\nOTHER=kept\n"
    calls = (tmp_path / "calls").read_text()
    assert calls.count(" up ") == 2


def test_an_image_that_is_not_there_changes_nothing(upgrade, tmp_path: Path) -> None:
    run = upgrade("missing:1")
    assert run.returncode == 1
    assert "there is no image missing:1" in run.stdout
    assert not (tmp_path / "backups").exists()
