from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from duologue.cli.main import app
from duologue.runtime.diagnosis import gpu, machine, mpi, packages, speech
from duologue.runtime.diagnosis.finding import fault, ok, warning


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any fault, so that a test adds its own."""
    for module in (packages, machine, gpu, mpi, speech):
        for name in [name for name in vars(module) if name.startswith("check_")]:
            is_list = name in ("check_packages", "check_disk", "check_gpus")
            answer = [ok(name, "well")] if is_list else ok(name, "well")
            monkeypatch.setattr(module, name, lambda *a, _answer=answer, **k: _answer)


def _doctor(*arguments: str, status: int):
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout


def test_all_well_is_0_and_every_look_has_its_line(well: None) -> None:
    lines = _doctor(status=0).splitlines()
    assert len(lines) == 12
    assert all(line.startswith("ok") for line in lines)


def test_a_warning_is_1_and_a_fault_is_2_each_with_its_remedy(well, monkeypatch) -> None:
    monkeypatch.setattr(machine, "check_ports", lambda *a: warning("ports", "taken", "choose"))
    assert "-> choose" in _doctor(status=1)
    monkeypatch.setattr(speech, "check_bundle", lambda *a: fault("bundle", "torn", "build [it]"))
    assert "-> build [it]" in _doctor(status=2)


def test_machines_get_one_object(well, monkeypatch) -> None:
    monkeypatch.setattr(machine, "check_ports", lambda *a: warning("ports", "taken", "choose"))
    document = json.loads(_doctor("--json", status=1))
    assert document["level"] == "warning"
    line = next(line for line in document["findings"] if line["topic"] == "ports")
    assert line == {"topic": "ports", "level": "warning", "found": "taken", "remedy": "choose"}


def test_speech_can_be_left_out(well, monkeypatch) -> None:
    monkeypatch.setattr(speech, "check_speech", lambda *a: pytest.fail("was not asked for"))
    _doctor("--no-speech", status=0)


def test_without_a_server_the_selftest_says_how_to_start_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert "duologue serve --detach" in _doctor("--selftest", status=2)


def test_the_base_install_is_enough_to_be_looked_at() -> None:
    code = """
import importlib.abc, sys
class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"onnxruntime", "torch", "tritonclient", "grpc", "soundfile", "tokenizers",
                   "safetensors", "fastapi", "google", "yaml", "mpi4py"}:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
sys.meta_path.insert(0, Wall())
from duologue.cli.main import app
app(["doctor", "--json"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    found = {line["topic"]: line for line in json.loads(run.stdout)["findings"]}
    assert found["bundle"]["level"] == "ok"
    assert found["speech"]["level"] == "warning"
