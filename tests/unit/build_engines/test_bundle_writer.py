from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from duologue.build_engines.bundle_writer import BundleWriter, Stage, StageResult
from duologue.runtime.bundle_files import describe_file, verify_bundle
from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
    WindowConfig,
    WindowStep,
)
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError


def make_bundle() -> Bundle:
    return Bundle(
        name="test",
        lm=LmConfig(
            vocab_sizes=(20, 5),
            delays=(0, 1),
            hidden_size=8,
            intermediate_size=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            head_dim=4,
        ),
        tokens=TokenIds(10, 14, 15, 16, 4, (16,)),
        prompt=PromptConfig("Speak.", "{system}{text}", ("<s1>",)),
        sampling=(ChannelSampling(), ChannelSampling()),
        codec=CodecConfig("test", 16_000, 24_000, 1280, 1920, 2, 4, 375),
        windows=WindowConfig((WindowStep(5, 5, 1),), 100),
        limits=LimitsConfig(max_rows=64),
    )


class Factory:
    """Stages that count how often they ran."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def stage(self, name: str, inputs: Mapping[str, Any] | None = None) -> Stage:
        def run(directory: Path) -> StageResult:
            self.runs.append(name)
            path = directory / f"{name}.bin"
            path.write_text(f"{name} {json.dumps(dict(inputs or {}))}")
            return StageResult((path.name,), {"size": path.stat().st_size})

        return Stage(name, inputs or {}, run)


def build(out: Path, *stages: Stage) -> None:
    with BundleWriter(out) as writer:
        for stage in stages:
            writer.run(stage)
        writer.finish(make_bundle())


def test_a_finished_build_is_a_bundle_and_leaves_no_work_folder(tmp_path: Path) -> None:
    factory = Factory()
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
        writer.run(factory.stage("b"))
        written = writer.finish(make_bundle())
    assert verify_bundle(tmp_path / "out", hashes=True) == written
    assert set(written.files) == {"a.bin", "b.bin"}
    assert written.files["a.bin"] == describe_file(tmp_path / "out" / "a.bin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_build_goes_on_after_the_stages_that_were_finished(tmp_path: Path) -> None:
    factory = Factory()

    def fail(directory: Path) -> StageResult:
        (directory / "b.bin").write_text("half")
        raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="the lights went out"):
        build(tmp_path / "out", factory.stage("a"), Stage("b", {}, fail))
    assert not (tmp_path / "out").exists()
    with BundleWriter(tmp_path / "out") as writer:
        result, taken_over = writer.run(factory.stage("a"))
        assert taken_over
        assert result == StageResult(("a.bin",), {"size": 4})
        assert not writer.run(factory.stage("b"))[1]
        writer.finish(make_bundle())
    assert factory.runs == ["a", "b"]
    assert (tmp_path / "out" / "b.bin").read_text() == "b {}"


def test_a_stage_runs_again_when_its_inputs_have_changed(tmp_path: Path) -> None:
    factory = Factory()
    for inputs in ({"dtype": "float32"}, {"dtype": "float16"}, {"dtype": "float16"}):
        with BundleWriter(tmp_path / "out") as writer:
            writer.run(factory.stage("a", inputs))
    assert factory.runs == ["a", "a"]


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_a_stage_runs_again_when_its_files_are_no_longer_what_it_wrote(
    tmp_path: Path, damage: str
) -> None:
    factory = Factory()
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
    path = tmp_path / "out.partial" / "bundle" / "a.bin"
    path.unlink() if damage == "removed" else path.write_text("b {}")
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
    assert factory.runs == ["a", "a"]


def test_files_of_an_earlier_attempt_do_not_slip_into_the_bundle(tmp_path: Path) -> None:
    factory = Factory()
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
        (writer.directory / "sub").mkdir()
        (writer.directory / "sub" / "stray.bin").write_text("stray")
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("b"))
        writer.finish(make_bundle())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["b.bin", "bundle.json"]


def test_a_record_that_cannot_be_read_makes_all_stages_run(tmp_path: Path) -> None:
    factory = Factory()
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
    (tmp_path / "out.partial" / "stages.json").write_text('{"a": ')
    with BundleWriter(tmp_path / "out") as writer:
        writer.run(factory.stage("a"))
    assert factory.runs == ["a", "a"]


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    factory = Factory()
    for name in ("a", "b"):
        with BundleWriter(tmp_path / "out") as writer:
            writer.run(factory.stage(name))
            writer.finish(make_bundle())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.bin", "bundle.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder with other things"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "precious.txt").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is no bundle"), BundleWriter(out):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_builds_cannot_write_the_same_bundle(tmp_path: Path) -> None:
    with (
        BundleWriter(tmp_path / "out"),
        pytest.raises(ConfigError, match="another build is writing"),
        BundleWriter(tmp_path / "out"),
    ):
        pass


def test_a_killed_build_leaves_nothing_that_loads_and_goes_on_later(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from duologue.build_engines.bundle_writer import BundleWriter, Stage, StageResult

        def first(directory):
            (directory / "a.bin").write_text("a {}")
            return StageResult(("a.bin",), {"size": 4})

        def second(directory):
            (directory / "b.bin").write_text("hal")
            os.kill(os.getpid(), signal.SIGKILL)

        with BundleWriter(Path(sys.argv[1])) as writer:
            writer.run(Stage("a", {}, first))
            writer.run(Stage("b", {}, second))
        """
    )
    out = tmp_path / "out"
    result = subprocess.run([sys.executable, "-c", script, str(out)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(ConfigError, match="no bundle"):
        verify_bundle(tmp_path / "out.partial" / "bundle")
    factory = Factory()
    with BundleWriter(out) as writer:
        assert writer.run(factory.stage("a"))[1]
        writer.run(factory.stage("b"))
        writer.finish(make_bundle())
    assert factory.runs == ["b"]
    assert (verify_bundle(out, hashes=True).files).keys() == {"a.bin", "b.bin"}


def test_a_build_killed_between_the_two_renames_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = Factory()
    out = tmp_path / "out"
    with BundleWriter(out) as writer:
        writer.run(factory.stage("a"))
        writer.finish(make_bundle())
    rename = os.replace

    def fail_at_last(source: Any, target: Any) -> None:
        if Path(target) == out:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_at_last)
    with pytest.raises(KeyboardInterrupt):
        build(out, factory.stage("b"))
    monkeypatch.undo()
    with BundleWriter(out) as writer:
        writer.run(factory.stage("b"))
        writer.finish(make_bundle())
    assert verify_bundle(out, hashes=True).files.keys() == {"b.bin"}
    assert factory.runs == ["a", "b"]
