from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.runtime.errors import ConfigError, EngineUnavailableError
from duologue.runtime.supervisor import mpi_launch
from duologue.runtime.supervisor.mpi_launch import (
    Mpirun,
    find_mpirun,
    inspect_mpirun,
    leader_pid,
    num_cores,
    require_mpirun,
)
from duologue.runtime.supervisor.mpi_probe import (
    LOOPBACK,
    Attempt,
    LaunchWay,
    Outcome,
    main,
    probe_import,
    try_import,
)

FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "mpirun ({name}) {version}"; exit 0; fi
while [ "$1" != "{python}" ]; do shift; done
export OMPI_COMM_WORLD_SIZE=1; exec "$@"
"""


def fake_mpirun(root: Path, name: str = "Open MPI", version: str = "4.1.4") -> Path:
    path = root / "bin" / "mpirun"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.format(name=name, version=version, python=sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture
def no_mpirun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mpi_launch.sys, "executable", str(tmp_path / "none" / "python"))
    monkeypatch.setattr(mpi_launch, "HPCX_DIR", tmp_path / "no_hpcx")


def test_the_command_has_the_flags_that_a_container_needs() -> None:
    line = Mpirun(Path("/usr/bin/mpirun"), "4.1.4").command(1, ["duologue", "serve"])
    expected = "/usr/bin/mpirun -n 1 --allow-run-as-root --bind-to none duologue serve"
    assert " ".join(line) == expected


def test_more_ranks_than_cores_are_allowed_explicitly() -> None:
    launcher = Mpirun(Path("mpirun"), "5.0.11")
    assert "--oversubscribe" in launcher.command(num_cores() + 1, ["true"])
    assert "--oversubscribe" not in launcher.command(num_cores(), ["true"])


def test_no_rank_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="number of ranks is 0"):
        Mpirun(Path("mpirun"), "4.1.4").command(0, ["true"])


def test_an_mpirun_is_known_by_what_it_says(tmp_path: Path) -> None:
    found = inspect_mpirun(fake_mpirun(tmp_path, version="5.0.11"))
    assert found is not None
    assert found.version == "5.0.11"


def test_other_kinds_of_mpi_do_not_serve(tmp_path: Path) -> None:
    assert inspect_mpirun(fake_mpirun(tmp_path, name="Intel(R) MPI Library")) is None
    assert inspect_mpirun(tmp_path / "missing") is None


@pytest.mark.parametrize("folder", ["lib", "lib/x86_64-linux-gnu"])
def test_ranks_get_the_library_of_their_own_mpirun(tmp_path: Path, folder: str) -> None:
    library = tmp_path / folder / "libmpi.so.40"
    library.parent.mkdir(parents=True)
    library.touch()
    found = inspect_mpirun(fake_mpirun(tmp_path))
    assert found is not None
    ranks = found.rank_environment({"HOME": "/root", "OMPI_COMM_WORLD_RANK": "1"})
    assert ranks == {"HOME": "/root", "MPI4PY_LIBMPI": str(library)}


@pytest.mark.usefixtures("no_mpirun")
def test_path_is_searched(tmp_path: Path) -> None:
    path = fake_mpirun(tmp_path)
    found = find_mpirun({"PATH": str(path.parent)})
    assert found is not None
    assert found.path == path


@pytest.mark.usefixtures("no_mpirun")
def test_a_missing_mpirun_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    assert find_mpirun({"PATH": str(tmp_path)}) is None
    with pytest.raises(EngineUnavailableError, match=r"duologue\[mpi\].*openmpi-bin"):
        require_mpirun({"PATH": str(tmp_path)})


def test_the_first_way_that_works_is_taken(tmp_path: Path) -> None:
    launcher = Mpirun(Path("mpirun"), "4.1.4", {"MPI4PY_LIBMPI": "/lib/libmpi.so.40"})
    outcomes: dict[str, Outcome] = {"direct": "hangs", "loopback": "fails", "mpirun": "works"}

    def attempt(way: LaunchWay, module: str, timeout_s: float) -> Attempt:
        assert (module, timeout_s) == ("tensorrt_llm", 7.0)
        return Attempt(way, outcomes[way.name], "why")

    def probe() -> tuple[list[str], LaunchWay | None]:
        found = probe_import("tensorrt_llm", timeout_s=7.0, mpirun=launcher, attempt=attempt)
        return [a.way.name for a in found.attempts], found.way

    names, way = probe()
    assert names == ["direct", "loopback", "mpirun"]
    assert way is not None
    assert way.prefix == ("mpirun", "-n", "1", "--allow-run-as-root", "--bind-to", "none")
    assert way.environment == launcher.environment
    outcomes["loopback"] = "works"
    assert probe() == (["direct", "loopback"], LaunchWay("loopback", (), LOOPBACK))
    outcomes["direct"] = "works"
    assert probe() == (["direct"], LaunchWay("direct"))
    outcomes["direct"] = "missing"
    assert probe() == (["direct"], None)


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be imported in one way only, and hangs or fails in others."""
    (tmp_path / "moody_package.py").write_text(
        "import os, time\n"
        "if 'OMPI_COMM_WORLD_SIZE' not in os.environ:\n"
        "    if 'OMPI_MCA_btl_tcp_if_include' in os.environ: raise OSError('no such device')\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "moody_package"


def test_a_hanging_import_is_ended(moody: str) -> None:
    attempt = try_import(LaunchWay("direct"), moody, 0.5)
    assert (attempt.outcome, attempt.detail) == ("hangs", "ended after 0.5 s")


def test_a_failing_import_is_told_by_its_last_line(moody: str) -> None:
    attempt = try_import(LaunchWay("loopback", (), LOOPBACK), moody, 60)
    assert (attempt.outcome, attempt.detail) == ("fails", "OSError: no such device")


def test_an_import_under_mpirun_works(moody: str, tmp_path: Path) -> None:
    launcher = inspect_mpirun(fake_mpirun(tmp_path))
    assert launcher is not None
    way = LaunchWay("mpirun", tuple(launcher.command(1, [])))
    assert try_import(way, moody, 60).outcome == "works"


def test_a_package_that_is_not_installed_is_called_missing() -> None:
    probe = probe_import("duologue_has_no_such_package", timeout_s=60)
    assert [attempt.outcome for attempt in probe.attempts] == ["missing"]
    assert "cannot be imported here: direct missing" in probe.describe()


def test_scripts_read_the_way_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["json", "--timeout-s", "60"]) == 0
    assert '"way": {"name": "direct"' in capsys.readouterr().out
    assert main(["duologue_has_no_such_package"]) == 1


@pytest.mark.parametrize("place", ["wheel", "system"])
def test_a_real_mpirun_runs_two_ranks_that_see_each_other(place: str) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = find_mpirun() if place == "wheel" else inspect_mpirun(Path("/usr/bin/mpirun"))
    if launcher is None:
        pytest.skip(f"no mpirun of the {place} is installed")
    program = "from mpi4py import MPI; print(MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1))"

    done = subprocess.run(
        launcher.command(2, [sys.executable, "-c", program]),
        env=launcher.rank_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["3", "3"], done.stderr


def test_names_of_other_processes_may_be_any_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for pid, name, parent, rank in ((7, b"\xe4\xb8", 1, b"0"), (8, b"a) b", 5, b"0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(b"%d (%s) S %d 0" % (pid, name, parent))
        environ = b"HOME=/root\0OMPI_COMM_WORLD_RANK=%s\0" % rank
        (tmp_path / str(pid) / "environ").write_bytes(environ)
    monkeypatch.setattr(mpi_launch, "PROC_DIR", tmp_path)
    assert leader_pid(5) == 8
    assert leader_pid(6) is None
