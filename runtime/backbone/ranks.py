# SPDX-License-Identifier: Apache-2.0
"""Ranks: the processes among which one language model is split, and how they sum their parts.

A rank is told its number by mpirun, in its environment. Nothing here imports MPI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError

SIZE_VARIABLE = "OMPI_COMM_WORLD_SIZE"
RANK_VARIABLE = "OMPI_COMM_WORLD_RANK"


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many ranks this process is; 0 of 1 when no mpirun started it."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Rank 0 serves; the others help it."""
        return self.rank == 0


def mpi_world(environment: Mapping[str, str] | None = None) -> World:
    """What Open MPI's mpirun says of this process.

    Args:
        environment: where to look; None takes the process's own.

    >>> mpi_world({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"})
    World(rank=1, size=2)
    """
    variables = os.environ if environment is None else environment
    size, rank = variables.get(SIZE_VARIABLE, "1"), variables.get(RANK_VARIABLE, "0")
    return World(int(rank), int(size))


class RankGroup(Protocol):
    """The ranks of one model, as one of them sees them."""

    @property
    def world(self) -> World:
        """Which of them this is."""
        ...

    def all_reduce(self, values: FloatArray) -> FloatArray:
        """The sum over all ranks, the same bits on each of them.

        Raises:
            EngineError: a rank has died.
        """
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One rank that holds everything."""

    world: World = World()

    def all_reduce(self, values: FloatArray) -> FloatArray:
        """The values themselves."""
        return values


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank holds of every layer, as index ranges into heads and feed-forward rows.

    Attributes:
        heads: query heads.
        kv_heads: key heads; with more ranks than key heads, neighbours hold the same one.
        inner: rows of the feed-forward layer.
    """

    heads: slice
    kv_heads: slice
    inner: slice


def share_of(lm: LmConfig, world: World) -> Share:
    """Split a model over ranks.

    Raises:
        ConfigError: heads or feed-forward rows do not divide over so many ranks.
    """
    size = world.size
    for name, total in (("num_heads", lm.num_heads), ("intermediate_size", lm.intermediate_size)):
        if total % size:
            raise ConfigError(
                f"{size} ranks cannot share lm.{name} = {total}; allowed: a divisor of it"
            )
    if lm.num_kv_heads % size and size % lm.num_kv_heads:
        raise ConfigError(
            f"{size} ranks cannot share lm.num_kv_heads = {lm.num_kv_heads}; "
            "allowed: a divisor or a multiple of it"
        )
    copies = max(1, size // lm.num_kv_heads)
    return Share(
        _part(lm.num_heads, world.rank, size),
        _part(lm.num_kv_heads, world.rank // copies, size // copies),
        _part(lm.intermediate_size, world.rank, size),
    )


def _part(total: int, rank: int, size: int) -> slice:
    length = total // size
    return slice(rank * length, (rank + 1) * length)


def sum_in_order(parts: FloatArray) -> FloatArray:
    """Sum over the first axis, one after the other, so that every rank gets the same bits."""
    total = np.array(parts[0])
    for part in parts[1:]:
        total += part
    return total
