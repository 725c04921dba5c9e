# SPDX-License-Identifier: Apache-2.0
"""What a look at a machine finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is; the worst one is the exit status of the doctor."""

    OK = 0
    WARNING = 1
    FAULT = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.

    Attributes:
        topic: what was looked at.
        level: how bad it is. A fault keeps duologue from running; a warning costs something.
        found: what is there.
        remedy: what to do; empty when all is well.
    """

    topic: str
    level: Level
    found: str
    remedy: str = ""


def ok(topic: str, found: str) -> Finding:
    """All is well."""
    return Finding(topic, Level.OK, found)


def warning(topic: str, found: str, remedy: str) -> Finding:
    """Something is missing or slow, and duologue still runs."""
    return Finding(topic, Level.WARNING, found, remedy)


def fault(topic: str, found: str, remedy: str) -> Finding:
    """Duologue cannot run so."""
    return Finding(topic, Level.FAULT, found, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among findings; OK when there is none.

    >>> worst([ok("disk", "half full"), warning("GPU", "none", "rent one")]).name
    'WARNING'
    """
    return max((finding.level for finding in findings), default=Level.OK)
