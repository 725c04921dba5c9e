from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from live_serve import LiveServe, serving

from duologue.runtime.supervisor.requirements import why_not_embedded

Judge = Callable[[str, str, str, bool], None]
ROWS = pytest.StashKey["list[Row]"]()


@dataclass(frozen=True)
class Row:
    fault: str
    criterion: str
    measured: str
    holds: bool


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = sorted(terminalreporter.config.stash[ROWS], key=lambda row: row.fault)
    if not rows:
        return
    width = max(len(row.criterion) for row in rows)
    terminalreporter.section("faults")
    for row in rows:
        verdict = "pass" if row.holds else "FAIL"
        line = f"{row.fault:<4} {row.criterion:<{width}}  {row.measured:<28}  {verdict}"
        terminalreporter.write_line(line)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Hold a measured value to its criterion; both stand in the table at the end."""

    def hold(fault: str, criterion: str, measured: str, holds: bool) -> None:
        request.config.stash[ROWS].append(Row(fault, criterion, measured, holds))
        assert holds, f"{fault}: {criterion}; measured: {measured}"

    return hold


@pytest.fixture(scope="session")
def needs_triton() -> None:
    reason = why_not_embedded()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def needs_mounts() -> None:
    """A private mount, e.g. a small disk: Linux lets root make one."""
    if os.geteuid() != 0 or os.system("unshare -m true 2>/dev/null") != 0:
        pytest.skip("mounting a small disk needs root")


@pytest.fixture(scope="module")
def server(
    needs_triton: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[LiveServe]:
    """One server for the tests of a file, with the SETTINGS and OPTIONS of the file."""
    settings = getattr(request.module, "SETTINGS", None)
    options = getattr(request.module, "OPTIONS", ())
    with serving(tmp_path_factory.mktemp("serve"), *options, settings=settings) as running:
        yield running
