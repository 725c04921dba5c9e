# SPDX-License-Identifier: Apache-2.0
"""Keys and values of all slots, which of their rows are being read, and the way to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class KvCache:
    """Keys and values of all slots: per layer [max_slots, kv heads, max_rows, head_dim]."""

    keys: list[Tensor]
    values: list[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which rows of which slots are being read.

    Attributes:
        slots: B seats.
        positions: [B, S], the place of each row in its sequence.
        longest: rows that the longest of the B sequences holds afterwards.
        seats: the B seats again, and
        lengths: the rows that each holds afterwards, both for the host.
    """

    slots: Tensor
    positions: Tensor
    longest: int
    seats: tuple[int, ...]
    lengths: tuple[int, ...]


def upload(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy to the device in the order of its work, without waiting for it."""
    tensor = torch.tensor(array)
    if device.type == "cpu":
        return tensor
    # The allocator of pinned memory keeps the block until the copy has been made.
    return tensor.pin_memory().to(device, non_blocking=True)


def make_rows(
    slots: Sequence[int], starts: Sequence[int], num_rows: int, device: torch.device
) -> Rows:
    """Rows [start, start + num_rows) of each slot."""
    first = upload(np.array(starts), device)[:, None]
    return Rows(
        slots=upload(np.array(slots), device),
        positions=first + torch.arange(num_rows, device=device),
        longest=max(starts) + num_rows,
        seats=tuple(slots),
        lengths=tuple(start + num_rows for start in starts),
    )
