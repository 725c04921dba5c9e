from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from duologue.build_engines import parity
from duologue.models import noise_bundle_path
from duologue.runtime.backbone.onnx_backbone import OnnxBackbone
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.codec.onnx_codec import OnnxCodec
from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray, Logits
from duologue.runtime.errors import EngineUnavailableError

BUNDLE = Bundle.load(noise_bundle_path())


def test_engines_that_agree_are_reported_as_such() -> None:
    report = parity.measure_parity(BUNDLE, noise_bundle_path())
    assert report["torch"]["hidden"]["max_abs_diff"] == 0.0
    assert 0.0 < report["onnx"]["hidden"]["max_abs_diff"] < 1e-4
    assert report["torch"]["logits"]["max_abs_diff"] == 0.0
    assert 0.0 < report["onnx"]["logits"]["max_abs_diff"] < 1e-3
    assert report["onnx"]["logits"]["ids_equal"] == report["onnx"]["logits"]["num_ids"]


def test_a_wrong_engine_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, decode_codes = OnnxBackbone.decode, OnnxCodec.decode

    def shifted(self: OnnxBackbone, slots: Any, input_ids: IntArray) -> Logits:
        logits = decode(self, slots, input_ids)
        return dataclasses.replace(logits, values=np.roll(logits.values, 1, axis=1))

    monkeypatch.setattr(OnnxBackbone, "decode", shifted)
    monkeypatch.setattr(OnnxCodec, "decode", lambda self, codes: decode_codes(self, codes) + 0.25)
    report = parity.measure_parity(BUNDLE, noise_bundle_path())
    logits = report["onnx"]["logits"]
    assert logits["max_abs_diff"] > 1.0
    assert logits["ids_equal"] < logits["num_ids"]
    assert report["codec_onnx"]["waveform"]["max_abs_diff"] == pytest.approx(0.25, abs=0.01)


def test_an_engine_that_hides_its_inside_has_no_such_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_closed(*args: Any, engine: str) -> Any:
        backbone = load_backbone(*args, engine=engine)
        shown = ("spec", "prefill", "decode", "close")
        is_closed = engine == "onnx"
        return (
            SimpleNamespace(**{n: getattr(backbone, n) for n in shown}) if is_closed else backbone
        )

    monkeypatch.setattr(parity, "load_backbone", load_closed)
    report = parity.measure_parity(BUNDLE, noise_bundle_path())
    assert set(report["onnx"]) == {"logits"}
    assert set(report["torch"]) == {"hidden", "logits"}


def test_engines_that_were_not_built_are_left_out() -> None:
    engines = {key: BUNDLE.engines[key] for key in ("onnx", "codec_torch")}
    engines["trtllm"] = {"status": "not built: no GPU"}
    bundle = dataclasses.replace(BUNDLE, engines=engines)
    report = parity.measure_parity(bundle, noise_bundle_path())
    assert set(report) == {"onnx", "codec_torch"}


def test_without_torch_there_is_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailableError, match=r"duologue\[build\]"):
        parity.measure_parity(BUNDLE, noise_bundle_path())
