# SPDX-License-Identifier: Apache-2.0
"""What `bench engine` measures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from duologue.client.errors import RequestError


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table: so many sequences that hold so many rows each."""

    batch: int
    context: int


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What is measured, and how often.

    Attributes:
        engines: "onnx", "torch", ... in this order.
        batches: sequences per step.
        contexts: rows that each sequence holds when the steps begin.
        threads: each is tried; a row tells the best of either side.
        steps: timed steps per round; the context grows by as many rows.
        rounds: our engine and the plain loop take turns so often, and change who begins.
        warmup_steps: untimed steps at the beginning of a round.
        max_prefill_rows: rows of a prompt that our engine reads at once, as the server does.
        seed: of prompts and draws.
    """

    engines: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    threads: tuple[int, ...]
    steps: int = 24
    rounds: int = 6
    warmup_steps: int = 3
    max_prefill_rows: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("engines", "batches", "contexts", "threads"):
            if not getattr(self, name):
                raise RequestError(f"{name} is empty; allowed: one or more")
        for name in ("batches", "contexts", "threads"):
            if min(getattr(self, name)) < 1:
                raise RequestError(f"{name} is {getattr(self, name)}; allowed: 1 or more each")
        if min(self.steps, self.rounds) < 1:
            raise RequestError(f"steps is {self.steps}, rounds is {self.rounds}; allowed: 1 each")

    @property
    def cells(self) -> Iterator[Cell]:
        """All pairs of batch and context."""
        return (Cell(b, c) for b, c in itertools.product(self.batches, self.contexts))

    @property
    def rows_needed(self) -> int:
        """Rows that a slot must hold."""
        return max(self.contexts) + self.warmup_steps + self.steps

    @property
    def num_measurements(self) -> int:
        """How often a cell is measured, for a progress bar."""
        return len(self.engines) * len(self.threads) * len(self.batches) * len(self.contexts)
