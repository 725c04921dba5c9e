# SPDX-License-Identifier: Apache-2.0
"""Figures as they stand in tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "–"
_DIGITS = 3


def number(value: float | None) -> str:
    """Three significant digits, without an exponent.

    >>> number(0.012345), number(1234.5), number(12.0), number(None), number(0.0)
    ('0.0123', '1234', '12.0', '–', '0')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """A figure with its 95 % interval, if it has one."""
    low, high = interval
    if low is None and high is None:
        return number(value)
    return f"{number(value)} ({number(low)}–{number(high)})"
