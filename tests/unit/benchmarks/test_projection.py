from __future__ import annotations

import pytest

from duologue.benchmarks.engine.projection import MACHINES, Machine, project, projection_table


def test_twice_the_bandwidth_halves_the_step_and_twice_the_cores_the_codec() -> None:
    one = project(10**9, 0.7, Machine("", 4, 50.0, 80.0))
    other = project(10**9, 0.7, Machine("", 8, 100.0, 80.0))
    assert other.step_s == pytest.approx(one.step_s / 2)
    assert other.codec_s == pytest.approx(one.codec_s / 2)
    assert other.real_time_factor == pytest.approx(one.real_time_factor / 2)


def test_the_table_has_a_line_per_row_and_machine_and_never_more_than_the_bandwidth() -> None:
    row = {"dtype": "int8", "floor_bytes_ms": 90.0, "step_ms": 60.0, "bytes": 10**9}
    lines = projection_table([row]).splitlines()
    assert len(lines) == 2 + len(MACHINES)
    assert all("100%" in line for line in lines[2:])
