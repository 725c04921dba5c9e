# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
from bench_documents import KINDS, document
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.reports.compare import Verdict, compare
from duologue.benchmarks.reports.tables import changes_to_markdown
from duologue.client.errors import RequestError

ENGINE = document("engine")


def _verdicts(before, after, tolerance=0.1):
    return {change.verdict for change in compare(before, after, tolerance)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_no_worse_than_itself(kind):
    made = document(kind)
    assert _verdicts(made, made, tolerance=0.0) == {Verdict.SAME}


@pytest.mark.parametrize("kind", KINDS)
def test_slower_is_worse_and_the_other_way_round_better(kind):
    fast, slow = document(kind), document(kind, factor=1.5)
    assert Verdict.WORSE in _verdicts(fast, slow)
    assert Verdict.BETTER not in _verdicts(fast, slow)
    assert Verdict.BETTER in _verdicts(slow, fast)
    assert Verdict.WORSE not in _verdicts(slow, fast)


@given(st.floats(0.5, 2.0), st.floats(0.01, 0.4))
def test_only_changes_beyond_the_tolerance_count(factor, tolerance):
    after = copy.deepcopy(ENGINE)
    for row in after["rows"]:
        row["step_ms"] *= factor
        row["step_ci_ms"] = [bound * factor for bound in row["step_ci_ms"]]
    found = _verdicts(ENGINE, after, tolerance)
    if abs(factor - 1) <= tolerance * 0.99:
        assert found == {Verdict.SAME}
    elif factor > 1 + tolerance + 0.2:
        assert found == {Verdict.WORSE}


def test_figures_whose_intervals_meet_cannot_be_told_apart():
    after = copy.deepcopy(ENGINE)
    for row in after["rows"]:
        row["step_ms"] *= 1.5
        row["step_ci_ms"] = [row["step_ci_ms"][0], row["step_ci_ms"][1] * 2]
    assert _verdicts(ENGINE, after) == {Verdict.SAME}


def test_one_more_failure_or_underrun_is_worse_whatever_the_tolerance():
    before = document("stream")
    for name in ("failures", "underruns"):
        after = copy.deepcopy(before)
        after["levels"][1][name] += 1
        (change,) = [c for c in compare(before, after, 10.0) if c.is_regression]
        assert change.metric == name
        assert "4 at a time" in change.row
        assert Verdict.WORSE not in _verdicts(after, before)


def test_what_is_no_longer_measured_is_a_regression():
    after = copy.deepcopy(ENGINE)
    del after["rows"][0]
    changes = compare(ENGINE, after, 0.1)
    assert [change.verdict for change in changes].count(Verdict.MISSING) == 1
    assert Verdict.MISSING not in _verdicts(after, ENGINE)
    unknown = copy.deepcopy(document("stream"))
    unknown["levels"][0]["audio_s_per_s"] = None
    assert Verdict.MISSING in _verdicts(document("stream"), unknown)


def test_an_open_loop_is_found_by_its_rate():
    before, after = document("stream"), document("stream")
    after["levels"][2]["concurrency"] *= 3
    assert _verdicts(before, after) == {Verdict.SAME}


def test_documents_of_two_kinds_are_not_compared():
    with pytest.raises(RequestError, match=r"'engine'.*'door'"):
        compare(ENGINE, document("door"), 0.1)


def test_the_table_begins_with_what_became_worse():
    after = copy.deepcopy(ENGINE)
    after["rows"][-1]["step_ms"] *= 9
    after["rows"][-1]["step_ci_ms"] = [100.0, 101.0]
    lines = changes_to_markdown(compare(ENGINE, after, 0.1)).splitlines()
    assert lines[2].endswith("| worse |")
    assert all(line.endswith("| same |") for line in lines[3:])
    assert len(lines) == 2 + len(ENGINE["rows"])
