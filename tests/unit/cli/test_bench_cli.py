# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from duologue.benchmarks.publication import FULL, QUICK
from duologue.benchmarks.stream import codec_clock
from duologue.benchmarks.workload import load_workload
from duologue.cli import bench as bench_verbs
from duologue.cli import bench_curves, bench_view
from duologue.cli.bench_options import command_line, split_names, split_numbers
from duologue.cli.bench_reports import bench

VERBS = {
    "engine",
    "stream",
    "offline",
    "door",
    "context",
    "growth",
    "report",
    "compare",
    "all",
}
HEAVY = "'grpc', 'tritonclient', 'torch', 'onnxruntime', 'numpy', 'matplotlib', 'psutil'"
RUN = f"""
import sys
from duologue.cli.main import app
try:
    app(sys.argv[1:])
finally:
    print("heavy:", *{{{HEAVY}}} & {{*sys.modules}})
"""


@pytest.mark.parametrize("arguments", [[], ["engine"], ["stream"], ["all"]])
def test_help_of_bench_imports_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bench", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]


@pytest.mark.parametrize("module", [bench_verbs, bench_curves], ids=["bench", "bench_curves"])
def test_options_are_said_in_one_place(module):
    """Two verbs with an option of one name mean the same by it, and say so once."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert "typer.Option(" not in source
    assert "bench_options import" in source


def test_bench_has_its_verbs(house):
    text = house.run("bench", "--help").stdout
    assert all(verb in text for verb in VERBS)
    assert set(typer.main.get_command(bench).commands) == VERBS


@pytest.mark.parametrize("publication", [FULL, QUICK])
def test_the_standard_set_is_made_of_commands_that_exist(publication):
    verbs = typer.main.get_command(bench).commands
    for verb, *arguments in publication.commands("some/bundle").values():
        context = verbs[verb].make_context(verb, [*arguments, "--json", "out.json"])
        assert context.params["bundle"] == "some/bundle"
        for name in split_names(context.params.get("workloads") or ""):
            load_workload(name)


def test_the_standard_set_asks_for_two_hundred_requests_per_level():
    commands = FULL.commands("default").values()
    levels = [words for words in commands if words[0] in ("stream", "door")]
    assert len(levels) == 4
    assert all(words[words.index("--requests") + 1] == "200" for words in levels)


def test_the_command_of_a_result_names_what_differs_from_the_defaults():
    verb = typer.main.get_command(bench).commands["stream"]
    given = ["--rate", "0.5,2", "--real-time", "--engine", "onnx", "--json", "my file.json"]
    context = verb.make_context("stream", [*given, "--requests", "200"])
    line = command_line(context)
    assert line == (
        "duologue bench stream --rate 0.5,2 --real-time --engine onnx --json 'my file.json'"
    )


def test_numbers_that_are_none_are_refused(house):
    assert split_numbers("0.5, 2", float) == (0.5, 2.0)
    result = house.run("bench", "stream", "--concurrency", "1,x")
    assert result.exit_code == 2
    assert "no numbers joined by commas" in result.output
    assert not house.server.was_running


def test_a_level_of_nobody_is_refused_before_a_server_starts(house):
    result = house.run("bench", "stream", "--concurrency", "0")
    assert result.exit_code == 2
    assert "all above 0" in result.output
    assert not house.server.was_running


def test_missing_packages_are_named_with_their_extra(house, monkeypatch):
    monkeypatch.setattr(bench_view.importlib.util, "find_spec", lambda name: None)
    result = house.run("bench", "offline")
    assert result.exit_code == 1
    assert "needs jsonschema, psutil: pip install 'duologue[bench]'" in result.output


def test_a_file_that_cannot_be_written_is_found_before_any_measurement(house, tmp_path):
    result = house.run("bench", "stream", "--json", tmp_path / "none" / "result.json")
    assert result.exit_code == 2
    assert not house.server.was_running


def test_a_named_server_is_measured_and_none_is_started(house, tmp_path, monkeypatch):
    monkeypatch.setattr(codec_clock, "codec_clock", lambda url: lambda: None)
    result = house.run(
        "bench", "stream", "--server", "far:8001", "--requests", 2, "--warmup", 1,
        "--concurrency", 2, "--workloads", "en_30s", "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert house.urls == ["far:8001"]
    assert not house.server.was_running
    assert house.client.is_closed
    assert len(house.client.asked) == 4
    assert {options["max_frames"] for _, options in house.client.asked} == {300}
    assert all(stream.is_closed for stream in house.client.streams)
