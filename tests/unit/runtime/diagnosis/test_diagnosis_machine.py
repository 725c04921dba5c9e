from __future__ import annotations

import socket
from importlib import metadata
from pathlib import Path

import pytest

from duologue.runtime.diagnosis import gpu, machine, mpi, packages
from duologue.runtime.diagnosis.finding import Level, fault, ok, warning, worst
from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.mpi_launch import Mpirun
from duologue.runtime.supervisor.mpi_probe import Attempt, ImportProbe, LaunchWay


def test_the_worst_finding_counts_and_none_is_well() -> None:
    assert worst([]) is Level.OK
    assert worst([ok("a", ""), fault("b", "", ""), warning("c", "", "")]) is Level.FAULT


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 9), Level.FAULT), ((3, 10), Level.OK), ((3, 12), Level.OK), ((3, 13), Level.WARNING)],
)
def test_pythons_are_judged(version: tuple[int, int], level: Level) -> None:
    assert packages.check_python(version).level is level


REQUIREMENTS = [
    "numpy>=1.26",
    'tritonclient[grpc]>=2.50; extra == "client"',
    'duologue[client]; extra == "cpu"',
    'onnxruntime>=1.20; extra == "cpu"',
    'never>=1; sys_platform == "win32" and extra == "cpu"',
]


def _versions(**versions: str):
    def version_of(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return version_of


def test_packages_are_held_to_their_ranges_extra_by_extra() -> None:
    have = _versions(numpy="2.0", tritonclient="2.10")
    base, client, cpu, gateway = packages.check_packages(REQUIREMENTS, have)
    assert (base.level, base.found) == (Level.OK, "numpy 2.0")
    assert client.level is Level.FAULT
    assert "tritonclient 2.10 (wanted >=2.50)" in client.found
    assert (cpu.level, cpu.found) == (Level.WARNING, "missing: onnxruntime")
    assert cpu.remedy == "pip install 'duologue[cpu]'"
    assert gateway.level is Level.OK


def test_what_duologue_itself_needs_is_a_fault_when_it_is_missing() -> None:
    assert packages.check_packages(REQUIREMENTS, _versions())[0].level is Level.FAULT


def test_a_lock_names_what_differs(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("--hash=x\n# two\nnumpy==2.0 \\\n    --hash=sha256:00\nrich==13.7 ; x\n")
    assert packages.check_lock(lock, _versions(numpy="2.0", rich="13.7")).level is Level.OK
    found = packages.check_lock(lock, _versions(numpy="2.1"))
    assert found.level is Level.FAULT
    assert "2 of 2 differ: numpy 2.1 (lock: 2.0), rich missing (lock: 13.7)" in found.found


@pytest.mark.parametrize("text", [None, "", "numpy>=2\n"])
def test_a_lock_that_pins_nothing_is_refused(tmp_path: Path, text: str | None) -> None:
    lock = tmp_path / "lock.txt"
    if text is not None:
        lock.write_text(text)
    with pytest.raises(ConfigError, match=r"lock\.txt"):
        packages.check_lock(lock)


@pytest.mark.parametrize(
    ("version", "level"),
    [("25.06", Level.WARNING), ("26.06", Level.OK), ("26.10.1", Level.OK), ("x", Level.WARNING)],
)
def test_the_tritonserver_of_an_image_is_held_to_the_security_floor(version, level) -> None:
    assert machine.check_triton({machine.IMAGE_VERSION: version}).level is level


def test_a_port_that_somebody_listens_on_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = machine.check_ports([("HTTP", port)])
        assert found.level is Level.WARNING
        assert f"HTTP {port}" in found.found
    assert machine.check_ports([("HTTP", port)]).level is Level.OK


def test_shared_memory_that_is_too_small_says_how_to_get_more(tmp_path: Path, monkeypatch) -> None:
    assert machine.check_shared_memory(tmp_path / "none").level is Level.WARNING
    monkeypatch.setattr(machine, "MIN_SHM_BYTES", 1 << 60)
    assert "--shm-size" in machine.check_shared_memory(tmp_path).remedy


def test_each_disk_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert len(machine.check_disk([tmp_path, tmp_path / "in", tmp_path / "none"])) == 1


def test_a_t4_is_told_that_it_has_no_bfloat16_and_an_h200_that_it_has() -> None:
    answers = {
        "nvidia-smi": "Tesla T4, 550.1, 15360, 7.5\nNVIDIA H200, 570.1, 143771, 9.0",
    }
    findings = gpu.check_gpus(lambda command: answers.get(command[0], "2.13.0 12.8 True 2"))
    assert [finding.level for finding in findings] == [Level.WARNING, Level.OK, Level.OK]
    assert "float16" in findings[0].remedy
    assert "CUDA 12.8, sees 2 GPUs" in findings[2].found


@pytest.mark.parametrize("answer", [None, "2.13.0+cpu none False 0"])
def test_a_torch_that_does_not_see_the_gpu_is_a_fault(answer: str | None) -> None:
    def ask(command):
        return "NVIDIA L4, 550.1, 23034, 8.9" if command[0] == "nvidia-smi" else answer

    assert gpu.check_gpus(ask)[1].level is Level.FAULT


def test_no_gpu_is_no_fault() -> None:
    (finding,) = gpu.check_gpus(lambda command: None)
    assert finding.level is Level.OK


def test_intel_s_mpi_in_the_way_is_told_of() -> None:
    mpirun = Mpirun(Path("/usr/bin/mpirun"), "4.1.4", {"MPI4PY_LIBMPI": "/usr/lib/libmpi.so.40"})
    assert mpi.check_mpi(mpirun, {"PATH": ""}).level is Level.OK
    found = mpi.check_mpi(mpirun, {"PATH": "", "I_MPI_ROOT": "/opt/intel"})
    assert found.level is Level.WARNING
    assert "unset I_MPI_ROOT" in found.remedy


def test_an_import_that_hangs_is_a_fault_with_another_way_out() -> None:
    attempt = Attempt(LaunchWay("direct"), "hangs", "", 60.0)
    found = mpi.check_tensorrt_llm(60.0, ImportProbe("tensorrt_llm", (attempt,)))
    assert found.level is Level.FAULT
    assert "--engine torch" in found.remedy
    works = Attempt(LaunchWay("loopback"), "works")
    probe = ImportProbe("tensorrt_llm", (attempt, works))
    assert mpi.check_tensorrt_llm(60.0, probe).level is Level.OK
