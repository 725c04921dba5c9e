# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
import math

import pytest
from bench_documents import KINDS, document
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.machine import parse_gpus
from duologue.benchmarks.reports.document import (
    RESULT_KEYS,
    check_document,
    read_document,
    rounded,
    write_document,
)
from duologue.benchmarks.reports.plots import write_plots
from duologue.benchmarks.reports.tables import number, to_markdown
from duologue.client.errors import RequestError


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_read_as_it_was_written(kind, tmp_path):
    made = document(kind)
    write_document(made, tmp_path / "result.json")
    assert read_document(tmp_path / "result.json") == made


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_misses_no_field_and_allows_no_other(kind):
    made = document(kind)
    for place in (made, made["machine"], made["bundle"], _first(made)):
        for name in list(place):
            if place is made and name == "kind":
                continue
            value = place.pop(name)
            with pytest.raises(RequestError, match=name):
                check_document(made)
            place[name] = value
        place["extra"] = 1
        with pytest.raises(RequestError, match="extra"):
            check_document(made)
        del place["extra"]
    check_document(made)


def _first(made):
    result = made[RESULT_KEYS[made["kind"]]]
    return result[0] if isinstance(result, list) else result


def test_the_schema_refuses_values_that_cannot_be():
    for path, value in (
        (("rows", 0, "step_ms"), 0.0),
        (("rows", 0, "batch"), 0),
        (("rows", 0, "plain_ms"), None),
        (("rows",), []),
        (("format",), 2),
        (("kind",), "other"),
    ):
        made = copy.deepcopy(document("engine"))
        place = made
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(RequestError, match="no result of duologue bench"):
            check_document(made)


def test_files_that_are_no_documents_are_refused(tmp_path):
    path = tmp_path / "file.json"
    for text in ("{", "[]", "{}", json.dumps({"kind": "engine"})):
        path.write_text(text)
        with pytest.raises(RequestError):
            read_document(path)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_six_digits_and_is_done_once(value):
    found = rounded(value)
    assert found == pytest.approx(value, rel=1e-5, abs=0)
    assert rounded(found) == found
    assert math.copysign(1, found) == math.copysign(1, value)


@given(st.floats(1e-6, 1e6))
def test_numbers_of_tables_have_three_digits_and_no_exponent(value):
    text = number(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_whole_and_its_command_stands_under_it(kind):
    text = to_markdown(document(kind))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) >= 3
    assert len({line.count("|") for line in rows}) == 1
    assert text.rstrip().endswith(f"```bash\nduologue bench {kind}\n```")
    assert "Bundle `noise` (random weights): " in text


def test_weights_that_nobody_called_random_are_not_called_trained():
    """A bundle that was built from somebody's checkpoint cannot know what is in it."""
    made = document("engine")
    made["bundle"]["trained"] = True
    assert "Bundle `noise`: " in to_markdown(made)
    assert "trained" not in to_markdown(made)


def test_a_busy_machine_is_said_to_be_busy():
    made = document("engine")
    made["machine"]["load_1m"] = 3.0
    assert "The machine was busy" in to_markdown(made)
    made["machine"]["load_1m"] = 0.1
    assert "The machine was busy" not in to_markdown(made)


@pytest.mark.parametrize("kind", KINDS)
def test_plots_are_png_files(kind, tmp_path):
    written = write_plots(document(kind), tmp_path / "plots", "run")
    assert written
    for path in written:
        assert path.name.startswith("run_")
        assert path.read_bytes().startswith(b"\x89PNG")


def test_lines_of_nvidia_smi_that_make_no_sense_are_left_out():
    lines = "NVIDIA T4, 550.1, 15360, 812, 7\nfailed to talk\n\n"
    (gpu,) = parse_gpus(lines)
    assert gpu["name"] == "NVIDIA T4"
    assert gpu["utilization.gpu"] == "7"
