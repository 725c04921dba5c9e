"""What the process that started an mpirun does while the ranks run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from duologue.runtime.supervisor.detached_log import MAX_LOG_BYTES, log_path, remove_old_logs

# It takes the place of an mpirun, and starts one rank instead of two.
MPIRUN = """#!/bin/sh
while [ "$1" != "{python}" ]; do shift; done
exec "$@"
"""
PARENT = """
import sys
from pathlib import Path
from duologue.cli import serve_ranks
from duologue.runtime.supervisor import mpi_launch
mpi_launch.require_mpirun = lambda: mpi_launch.Mpirun(Path(sys.argv[1]), "4.1.4")
serve_ranks.LOOK_EVERY_S = 0.02
serve_ranks.run_ranks(2, [sys.executable, "-c", sys.argv[2]])
"""
# Says as much as is put aside, and then waits until it was.
RANK = f"""
import os, time
for _ in range({MAX_LOG_BYTES} // 100_000):
    os.write(1, b"x" * 100_000)
give_up_at = time.monotonic() + 20
while os.fstat(1).st_size and time.monotonic() < give_up_at:
    time.sleep(0.01)
print("still here", flush=True)
"""


def test_the_log_of_all_ranks_is_kept_short(tmp_path: Path) -> None:
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(MPIRUN.format(python=sys.executable))
    mpirun.chmod(0o755)
    folder = tmp_path / "duologue"
    folder.mkdir()
    draft = folder / "draft"
    with draft.open("ab") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(mpirun), RANK],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with parent:
        path = draft.rename(log_path(parent.pid, folder))
        # The state that is kept names rank 0; this log is its parent's.
        remove_old_logs(folder, running=set(), kept=0)
        assert path.exists(), "it is written still"
        assert parent.wait(60) == 0, path.read_text()[-1000:]
    assert path.read_text() == "still here\n"
    assert Path(f"{path}.1").stat().st_size == MAX_LOG_BYTES
    remove_old_logs(folder, running=set(), kept=0)
    assert not path.exists()
