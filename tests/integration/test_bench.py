# SPDX-License-Identifier: Apache-2.0
"""The verb bench with real engines and a real server; no figure is judged by its size."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duologue.benchmarks.engine.growth import GrowthPlan, run_growth_bench
from duologue.benchmarks.engine.our_loop import OurLoop, speech_rows
from duologue.benchmarks.engine.plain_loop import PlainLoop
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.benchmarks.reports.document import SCHEMA_PATH
from duologue.cli.main import app
from duologue.models import resolve_bundle
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.config import Bundle
from duologue.runtime.supervisor.requirements import why_not_embedded

SHORT = ("--max-seconds", "1", "--requests", "3", "--warmup", "1", "--engine", "onnx")
needs_triton = pytest.mark.skipif(why_not_embedded() is not None, reason=str(why_not_embedded()))


@pytest.fixture(scope="module")
def bundle_dir() -> Path:
    return resolve_bundle("noise")


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir)


def _plan(**changes):
    sizes = {"engines": ("torch",), "batches": (1, 3), "contexts": (20,), "threads": (1,)}
    return EnginePlan(**{**sizes, "steps": 4, "rounds": 2, "warmup_steps": 1, **changes})


def _run(*arguments, status=0):
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def _measure(tmp_path, *arguments):
    """Run a verb and give its document, which fits the schema, with the text it printed."""
    path = tmp_path / "result.json"
    result = _run(*arguments, "--bundle", "noise", "--json", path)
    document = json.loads(path.read_text())
    jsonschema.validate(document, json.loads(SCHEMA_PATH.read_text()))
    return document, result.stdout


def test_the_plain_loop_computes_the_same_model(bundle, bundle_dir):
    """Otherwise it would be a measure of nothing."""
    plan, rows = _plan(), speech_rows(bundle, 20, seed=3)
    plain = PlainLoop(bundle, bundle_dir / "lm.safetensors", plan)
    ours = load_backbone(bundle, bundle_dir, engine="torch", max_slots=1, max_rows=32)
    expected = ours.prefill(0, rows).values[0]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(plain.logits(rows), expected, atol=2e-4, rtol=1e-4)


def test_both_loops_note_each_timed_step_once(bundle, bundle_dir):
    plan, cell = _plan(), Cell(3, 20)
    ours, plain = LoopTimes(), LoopTimes()
    backbone = load_backbone(bundle, bundle_dir, engine="onnx", max_slots=3, max_rows=25)
    loop = OurLoop(bundle, backbone, plan)
    for _ in range(2):
        loop.run_round(cell, ours)
    rows = speech_rows(bundle, 20, seed=3)
    reader = PlainLoop(bundle, bundle_dir / "lm.safetensors", plan)
    for _ in range(2):
        reader.run_round(rows, cell, plain)
    for times in (ours, plain):
        assert len(times.prefill_s) == 2
        assert len(times.step_s) == len(times.sampling_s) == 8
        pairs = zip(times.sampling_s, times.step_s, strict=True)
        assert all(0 < part <= whole for part, whole in pairs)


def test_engines_are_measured_and_torch_gets_its_threads_back(tmp_path):
    before = torch.get_num_threads()
    small = ("--batch", "1,2", "--context", "20", "--steps", "3", "--rounds", "2")
    plots = tmp_path / "plots"
    document, text = _measure(
        tmp_path, "engine", *small, "--threads", "1", "--plots", plots, "--md", tmp_path / "e.md"
    )
    assert torch.get_num_threads() == before
    assert [(row["engine"], row["batch"]) for row in document["rows"]] == [
        ("onnx", 1),
        ("onnx", 2),
        ("torch", 1),
        ("torch", 2),
    ]
    assert all(row["num_steps"] == 6 for row in document["rows"])
    assert document["command"].startswith("duologue bench engine --batch 1,2 --context 20 ")
    assert document["command"] in text
    assert len(list(plots.glob("result_*.png"))) == 2
    assert text.strip() == (tmp_path / "e.md").read_text().strip()


@needs_triton
@pytest.mark.triton
def test_streams_are_measured_on_a_server_of_our_own(tmp_path):
    loads = ("--concurrency", "1,2", "--rate", "4")
    document, text = _measure(tmp_path, "stream", *loads, *SHORT)
    levels = document["levels"]
    assert [level["loop"] for level in levels] == ["closed", "closed", "open"]
    assert [level["concurrency"] for level in levels[:2]] == [1, 2]
    for level in levels:
        assert level["failures"] == 0
        assert level["requests"] == 3
        assert level["audio_s"] == pytest.approx(3 * 1.04)
        assert level["ttfa_ms"]["count"] == 3
        assert level["first_chunk_ms"]["p50"] > 0
        assert level["resources"]["server_rss_mib"] > 0
        assert level["codec_s_per_audio_s"] > 0
    assert "2 at a time" in text


@needs_triton
@pytest.mark.triton
def test_callers_in_real_time_are_paced(tmp_path):
    document, _ = _measure(tmp_path, "stream", "--concurrency", "1", "--real-time", *SHORT)
    (level,) = document["levels"]
    assert level["real_time"]
    assert level["failures"] == 0


@needs_triton
@pytest.mark.triton
def test_the_door_is_compared_chunk_by_chunk(tmp_path):
    document, _ = _measure(tmp_path, "door", *SHORT)
    door = document["door"]
    assert door["pairs"] == 3
    assert door["failures"] == 0
    assert door["gap_added_ms"]["count"] >= 3


def test_the_offline_set_is_spoken_at_once_and_failures_are_told(tmp_path):
    names = "en_30s,zh_30s_voices,en_600s"
    document, _ = _measure(
        tmp_path, "offline", "--workloads", names, "--max-seconds", "1", "--engine", "onnx"
    )
    run = document["offline"]
    assert [dialogue["workload"] for dialogue in run["dialogues"]] == names.split(",")
    assert run["requests"] == 3
    failed = [dialogue for dialogue in run["dialogues"] if dialogue["error"]]
    assert run["failures"] == len(failed) == sum(run["errors"].values())
    assert run["audio_s"] == pytest.approx(1.04 * (3 - len(failed)))
    assert run["codec_s_per_audio_s"] > 0
    assert run["frames_decoded_per_frame"] > 1


def test_results_are_compared_by_exit_status_and_reported_again(tmp_path):
    arguments = ("--workloads", "en_30s", "--max-seconds", "1", "--engine", "onnx")
    document, text = _measure(tmp_path, "offline", *arguments)
    before, after = tmp_path / "result.json", tmp_path / "after.json"
    assert "| same |" in _run("compare", before, before).stdout
    document["offline"]["audio_s_per_s"] /= 3
    after.write_text(json.dumps(document))
    assert "| worse |" in _run("compare", before, after, status=1).stdout
    _run("compare", after, before)
    _run("compare", before, after, "--tolerance", "0.9")
    assert _run("report", before, "--md", tmp_path / "r.md").stdout == text
    assert (tmp_path / "r.md").read_text().strip() == text.strip()
    after.write_text("{}")
    assert "no result of duologue bench" in _run("compare", before, after, status=2).output


def test_bench_context_finds_more_context_nearer_to_the_whole(tmp_path):
    document, text = _measure(
        tmp_path,
        "context",
        "--hops",
        "5",
        "--lefts",
        "0,20",
        "--rights",
        "0,2",
        "--workloads",
        "en_30s",
        "--max-frames",
        "40",
    )
    distance = {(row["left"], row["right"]): row["lsd_db"] for row in document["windows"]}
    assert len(distance) == 4
    assert distance[20, 2] < distance[0, 0]
    assert "frames decoded per frame" in text


def test_bench_growth_measures_both_lines(tmp_path):
    document, _ = _measure(
        tmp_path,
        "growth",
        "--batch",
        "1,3",
        "--context",
        "10,30",
        "--at-context",
        "20",
        "--steps",
        "2",
        "--threads",
        "1",
        "--plots",
        tmp_path / "plots",
    )
    points = [(p["axis"], p["batch"], p["context"]) for p in document["points"]]
    assert points == [("batch", 1, 20), ("batch", 3, 20), ("context", 1, 10), ("context", 1, 30)]
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4


def test_growth_counts_what_it_left_out_for_want_of_time(bundle_dir):
    plan = GrowthPlan("onnx", (1, 2), (10,), context=20, max_minutes=1e-9)
    assert run_growth_bench(bundle_dir, plan) == ([], 3)
