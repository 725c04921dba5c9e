# SPDX-License-Identifier: Apache-2.0
"""The ranks as MPI knows them: the only file that imports mpi4py.

MPI_Init must be called by one process per rank alone: by the process that holds the model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from duologue.runtime.backbone.ranks import World, sum_in_order
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError, EngineUnavailableError

_MAX_PATH_BYTES = 256


class MpiGroup:
    """A `ranks.RankGroup` over MPI. Creating it calls MPI_Init and waits for the other ranks.

    Args:
        world: what mpirun said.

    Attributes:
        lost: why the group cannot go on, or None; set from another thread when a rank dies.

    Raises:
        EngineUnavailableError: mpi4py is missing, or MPI sees other ranks than mpirun started.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.lost: str | None = None
        try:
            import mpi4py

            # Ended by `close` alone: with a dead rank, MPI_Finalize would wait for ever.
            mpi4py.rc.finalize = False
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise EngineUnavailableError(
                f"{world.size} ranks need mpi4py and Open MPI's library ({error}): "
                "pip install 'duologue[mpi]'"
            ) from error
        self._mpi: Any = MPI
        self._comm: Any = MPI.COMM_WORLD
        if self._comm.size != world.size:
            raise EngineUnavailableError(
                f"mpirun started {world.size} ranks, but MPI sees {self._comm.size}: mpirun and "
                "the MPI library are of different installations; MPI4PY_LIBMPI names the library"
            )

    def share_path(self, path: Path | None) -> Path:
        """Tell all ranks a path.

        Args:
            path: on rank 0; None elsewhere.

        Returns:
            The path of rank 0.
        """
        buffer = np.zeros(_MAX_PATH_BYTES, np.uint8)
        if path is not None:
            name = os.fsencode(path)
            buffer[: len(name)] = np.frombuffer(name, np.uint8)
        self._comm.Bcast(buffer, root=0)
        return Path(os.fsdecode(buffer.tobytes().rstrip(b"\0")))

    def all_reduce(self, values: FloatArray) -> FloatArray:
        """The sum over all ranks, the same bits on each of them.

        Raises:
            EngineError: a rank has died.
        """
        mine = np.ascontiguousarray(values, np.float32)
        parts = np.empty((self.world.size, *mine.shape), np.float32)
        request = self._comm.Iallgather(mine, parts)
        while not request.Test():
            if self.lost is not None:
                raise EngineError(self.lost)
            # The ranks may have to share a core.
            os.sched_yield()
        return sum_in_order(parts)

    def close(self) -> None:
        """Leave MPI, together with the other ranks; a group that lost one just ends."""
        if self.lost is None and not self._mpi.Is_finalized():
            self._mpi.Finalize()
