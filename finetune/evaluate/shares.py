# SPDX-License-Identifier: Apache-2.0
"""How many of how many, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """A count among others.

    Attributes:
        hits: how many.
        total: of how many.
    """

    hits: int
    total: int

    @staticmethod
    def of(answers: Iterable[bool]) -> Share:
        """Count the answers that are true.

        >>> Share.of([True, False, True])
        Share(hits=2, total=3)
        """
        known = list(answers)
        return Share(sum(known), len(known))

    def __add__(self, other: Share) -> Share:
        return Share(self.hits + other.hits, self.total + other.total)

    @property
    def value(self) -> float:
        """Between 0 and 1; 0 of nothing."""
        return self.hits / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval after Wilson, which holds for shares near 0 and 1, too.

        >>> [round(end, 3) for end in Share(100, 100).interval]
        [0.963, 1.0]
        """
        if not self.total:
            return 0.0, 1.0
        n, z2 = self.total, _Z_95**2
        middle = (self.value + z2 / (2 * n)) / (1 + z2 / n)
        half = (
            _Z_95 * math.sqrt(self.value * (1 - self.value) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        )
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        """As in a table.

        >>> str(Share(99, 100))
        '99.0 % (99 of 100)'
        """
        return f"{self.value:.1%} ({self.hits} of {self.total})".replace("%", " %")
