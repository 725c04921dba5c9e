from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint, write_codec_weights
from duologue.build_engines.codec_onnx import export_codec
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.runtime.codec import registry
from duologue.runtime.codec.onnx_codec import OnnxCodec
from duologue.runtime.codec.registry import CodecPlace, choose_place, load_codec, near_device
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.codec.window import default_windows
from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
)
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError, EngineUnavailableError

SIZES = RandomCodecSizes(num_codebooks=2, codebook_size=16, rvq_dim=4, d_model=8, num_heads=2)
ENGINES: dict[str, dict[str, Any]] = {
    "codec_onnx": {"encoder": "codec_encoder.onnx", "decoder": "codec_decoder.onnx"},
    "codec_torch": {"weights": "codec.safetensors"},
}


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    """Threads of torch that wait for each other on a busy machine cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_random_codec(tmp_path_factory.mktemp("codec"), sizes=SIZES)
    loaded = load_codec_checkpoint(directory / "xy_tokenizer.ckpt", directory / "config.yaml")
    write_codec_weights(loaded.tensors, directory / "codec.safetensors")
    export_codec(loaded.parameters, directory / "codec.safetensors")
    (directory / "bundle.json").write_text(make_bundle(loaded.config).to_json(), encoding="utf-8")
    return directory


@pytest.fixture
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir)


def make_bundle(codec: CodecConfig) -> Bundle:
    return Bundle(
        name="test",
        lm=LmConfig((40, 17), (0, 1), 8, 16, 1, 2, 1, 4),
        tokens=TokenIds(20, 36, 37, 0, 16, (0,)),
        prompt=PromptConfig("", "{text}", ("<a>", "<b>")),
        sampling=(ChannelSampling(), ChannelSampling()),
        codec=codec,
        windows=default_windows(codec),
        limits=LimitsConfig(max_rows=100),
        engines=ENGINES,
    )


def hide(monkeypatch: pytest.MonkeyPatch, *wheels: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in wheels else find(name, *a)
    )


def test_auto_is_onnx_on_a_cpu_and_torch_where_onnxruntime_is_missing(
    bundle: Bundle, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load_codec(bundle, bundle_dir), OnnxCodec)
    hide(monkeypatch, "onnxruntime")
    assert isinstance(load_codec(bundle, bundle_dir), TorchCodec)


def test_engines_agree(bundle: Bundle, bundle_dir: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 16, (2, 2, 9))
    first, second = (load_codec(bundle, bundle_dir, e) for e in ("onnx", "torch"))
    np.testing.assert_allclose(first.decode(codes), second.decode(codes), atol=1e-4)


@pytest.mark.parametrize(("engine", "wheel"), [("onnx", "onnxruntime"), ("torch", "torch")])
def test_missing_wheel_is_named_with_what_to_install(
    bundle: Bundle, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch, engine: str, wheel: str
) -> None:
    hide(monkeypatch, wheel)
    with pytest.raises(EngineUnavailableError, match=rf"needs {wheel}; .*pip install 'duologue\["):
        load_codec(bundle, bundle_dir, engine)


def test_engine_that_was_not_built_is_unavailable(bundle: Bundle, bundle_dir: Path) -> None:
    only_onnx = dataclasses.replace(bundle, engines={"codec_onnx": ENGINES["codec_onnx"]})
    with pytest.raises(EngineUnavailableError, match="built with: onnx"):
        load_codec(only_onnx, bundle_dir, "torch")
    with pytest.raises(EngineUnavailableError, match="no codec engine torch for cuda"):
        load_codec(only_onnx, bundle_dir, device="cuda")
    with pytest.raises(EngineUnavailableError, match="runs on cpu, not on cuda"):
        load_codec(only_onnx, bundle_dir, "onnx", device="cuda")


def test_unknown_engine_and_missing_files_are_errors_of_configuration(
    bundle: Bundle, bundle_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="'tensorflow'; allowed"):
        load_codec(bundle, bundle_dir, "tensorflow")
    for engine in ("onnx", "torch"):
        with pytest.raises(ConfigError, match="exist"):
            load_codec(bundle, tmp_path, engine)
    without = dataclasses.replace(bundle, engines={"codec_torch": {}})
    with pytest.raises(ConfigError, match=r"engines\.codec_torch\.weights is None"):
        load_codec(without, bundle_dir, "torch")


def test_a_codec_goes_to_the_gpu_of_its_language_model(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert near_device(bundle, "torch") == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert near_device(bundle, "torch") == near_device(bundle, "trtllm") == "cuda"
    assert near_device(bundle, "onnx") == near_device(bundle, "numpy") == "cpu"
    only_onnx = dataclasses.replace(bundle, engines={"codec_onnx": ENGINES["codec_onnx"]})
    assert near_device(only_onnx, "torch") == "cpu"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver shows itself, and torch sees a GPU."""
    monkeypatch.setattr(registry, "_GPU_FILES", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("gpu")
def test_auto_takes_the_gpu_where_torch_sees_one(bundle: Bundle) -> None:
    assert choose_place(bundle) == CodecPlace("torch", "cuda")
    assert choose_place(bundle, "torch") == CodecPlace("torch", "cuda")
    assert choose_place(bundle, device="cuda:1") == CodecPlace("torch", "cuda:1")
    assert choose_place(bundle, device="cpu") == CodecPlace("onnx", "cpu")
    assert choose_place(bundle, "onnx") == CodecPlace("onnx", "cpu"), "what onnx can use"
    only_onnx = dataclasses.replace(bundle, engines={"codec_onnx": ENGINES["codec_onnx"]})
    assert choose_place(only_onnx) == CodecPlace("onnx", "cpu")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("lack", ["driver", "torch", "cuda"])
def test_auto_stays_on_the_cpu_when_anything_is_lacking(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    if lack == "driver":
        monkeypatch.setattr(registry, "_GPU_FILES", ())
    elif lack == "torch":
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
        )
    else:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_place(bundle) == CodecPlace("onnx", "cpu")
    with pytest.raises(EngineUnavailableError, match="no torch here sees a GPU"):
        choose_place(bundle, device="cuda")


@pytest.mark.usefixtures("gpu")
def test_a_place_that_cannot_be_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineUnavailableError, match="runs on cpu, not on cuda"):
        choose_place(bundle, "onnx", "cuda")
    with pytest.raises(ConfigError, match="codec device is 'gpu'"):
        choose_place(bundle, device="gpu")
    with pytest.raises(ConfigError, match="'tensorflow'; allowed"):
        choose_place(bundle, "tensorflow")


def test_a_codec_for_which_the_gpu_has_no_room_says_what_helps(
    bundle: Bundle, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("duologue.runtime.codec.torch_codec.TorchCodec", load)
    with pytest.raises(ConfigError, match=r"memory of cuda beside .* --max-slots"):
        load_codec(bundle, bundle_dir, device="cuda")
