"""The registry picks an engine, or says what stands in the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fakes import LM
from random_lms import GRAPH, WEIGHTS, build_random_lm

from duologue.runtime.backbone import registry
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
from duologue.runtime.errors import ConfigError, EngineUnavailableError

ONNX = {"status": "built", "dtype": "float32", "graph": GRAPH, "weights": WEIGHTS}
TORCH = {"status": "built", "dtype": "float32", "weights": WEIGHTS}
TRTLLM = {"status": "not built: needs a GPU"}


def _bundle(lm: LmConfig, **engines: dict[str, Any]) -> Bundle:
    return Bundle(
        name="tiny",
        lm=lm,
        tokens=TokenIds(2, 4, 5, 0, 1, ()),
        prompt=PromptConfig("", "{system}{text}", ("a",)),
        sampling=(ChannelSampling(),) * lm.num_channels,
        codec=CodecConfig("fake", 16000, 24000, 1280, 1920, lm.num_channels, 50, 100),
        windows=WindowConfig((WindowStep(5, 0, 0),), 0),
        limits=LimitsConfig(max_rows=64, max_slots=3),
        engines=engines,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return _bundle(build_random_lm(tmp_path), onnx=ONNX, torch=TORCH, trtllm=TRTLLM)


def _hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(registry, "_is_installed", lambda module: module not in modules)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_an_engine_is_loaded_by_name(bundle: Bundle, tmp_path: Path, engine: str) -> None:
    spec = registry.load_backbone(bundle, tmp_path, engine=engine).spec
    assert (spec.engine, spec.max_slots, spec.max_rows) == (engine, 3, 64)


def test_sizes_can_be_changed(bundle: Bundle, tmp_path: Path) -> None:
    spec = registry.load_backbone(bundle, tmp_path, engine="onnx", max_slots=1, max_rows=9).spec
    assert (spec.max_slots, spec.max_rows) == (1, 9)


def test_auto_without_a_gpu_is_onnx_and_else_torch(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_has_gpu", lambda: False)
    assert registry.load_backbone(bundle, tmp_path).spec.engine == "onnx"
    _hide(monkeypatch, "onnxruntime")
    assert registry.load_backbone(bundle, tmp_path).spec.engine == "torch"


def test_auto_with_a_gpu_is_torch(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_has_gpu", lambda: True)
    assert registry._choose(bundle) == "torch"
    assert registry._choose(dataclasses.replace(bundle, engines={"onnx": ONNX})) == "onnx"


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [("torch", "torch", "gpu"), ("onnx", "onnxruntime", "cpu")],
)
def test_a_missing_wheel_says_what_to_install(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    module: str,
    extra: str,
) -> None:
    _hide(monkeypatch, module)
    with pytest.raises(EngineUnavailableError, match=rf"pip install 'duologue\[{extra}\]'"):
        registry.load_backbone(bundle, tmp_path, engine=engine)


def test_an_engine_that_was_not_built_says_why(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"needs a GPU.*built: torch, onnx"):
        registry.load_backbone(bundle, tmp_path, engine="trtllm")
    empty = _bundle(LM, codec_onnx={"status": "built"})
    with pytest.raises(EngineUnavailableError, match=r"run duologue build.*built: none"):
        registry.load_backbone(empty, tmp_path)


def test_a_built_trtllm_engine_needs_its_wheel(bundle: Bundle, tmp_path: Path) -> None:
    built = dataclasses.replace(bundle, engines={"trtllm": {"status": "built"}})
    with pytest.raises(EngineUnavailableError, match=r"tensorrt_llm>=1.0,<1.3.*not installed"):
        registry.load_backbone(built, tmp_path, engine="trtllm")


@pytest.mark.parametrize("engines", [{"onnx": ONNX}, {"torch": TORCH}])
def test_numpy_reads_the_weights_of_another_engine(
    bundle: Bundle, tmp_path: Path, engines: dict[str, dict[str, Any]]
) -> None:
    only = dataclasses.replace(bundle, engines=engines)
    spec = registry.load_backbone(only, tmp_path, engine="numpy").spec
    assert (spec.engine, spec.max_slots, spec.max_rows) == ("numpy", 3, 64)


def test_numpy_reads_no_quantised_weights(bundle: Bundle, tmp_path: Path) -> None:
    only = dataclasses.replace(bundle, engines={"onnx": {**ONNX, "dtype": "int8"}})
    with pytest.raises(EngineUnavailableError, match="only quantised weights"):
        registry.load_backbone(only, tmp_path, engine="numpy")


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_several_ranks_refuse_an_engine_that_cannot_be_split(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=f"engine {engine} cannot be split over 2 ranks"):
        registry.load_backbone(bundle, tmp_path, engine=engine)


def test_an_unknown_engine_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine is 'tpu'; allowed: auto, torch, onnx, trtllm"):
        registry.load_backbone(bundle, tmp_path, engine="tpu")


def test_an_entry_without_its_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    broken = dataclasses.replace(bundle, engines={"onnx": {"status": "built"}})
    with pytest.raises(ConfigError, match="graph is None"):
        registry.load_backbone(broken, tmp_path, engine="onnx")
