from __future__ import annotations

from pathlib import Path

import pytest

from duologue.runtime.codec import registry
from duologue.runtime.diagnosis.finding import Level
from duologue.runtime.diagnosis.speech import check_codec


def test_the_place_of_the_codec_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_GPU_FILES", ())
    finding = check_codec("noise")
    assert (finding.level, finding.found) == (Level.OK, "onnx on cpu")


def test_a_gpu_that_the_codec_does_not_use_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "_GPU_FILES", (tmp_path,))
    monkeypatch.setattr(registry, "sees_gpu", lambda: False)
    finding = check_codec("noise")
    assert finding.level == Level.WARNING
    assert "although there is a GPU" in finding.found
    monkeypatch.setattr(registry, "sees_gpu", lambda: True)
    assert (check_codec("noise").level, check_codec("noise").found) == (Level.OK, "torch on cuda")


def test_a_bundle_that_is_none_is_named() -> None:
    assert "no-such-bundle" in check_codec("no-such-bundle").found
