from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from duologue.build_engines.codec_checkpoint import (
    CodecCheckpoint,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.random_checkpoint_codec import (
    RandomCodecSizes,
    generator_params,
    write_random_codec,
)
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.errors import ConfigError

SIZES = RandomCodecSizes(
    num_codebooks=2, codebook_size=16, rvq_dim=4, d_model=8, num_heads=2, ffn_dim=8, vocos_dim=8
)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_codec(tmp_path_factory.mktemp("codec"), sizes=SIZES)


@pytest.fixture
def state(codec_dir: Path) -> State:
    data: Any = torch.load(codec_dir / "xy_tokenizer.ckpt", weights_only=True)
    loaded: State = data["generator"]
    return loaded


@pytest.fixture(scope="module")
def wanted(codec_dir: Path) -> CodecCheckpoint:
    return load(codec_dir / "xy_tokenizer.ckpt", codec_dir)


def load(weights: Path, codec_dir: Path) -> CodecCheckpoint:
    return load_codec_checkpoint(weights, codec_dir / "config.yaml")


def assert_same(found: CodecCheckpoint, wanted: CodecCheckpoint) -> None:
    assert found.tensors.keys() == wanted.tensors.keys()
    assert all(torch.equal(found.tensors[n], wanted.tensors[n]) for n in wanted.tensors)


def as_published_on_hugging_face(state: State) -> State:
    renamed = {}
    for name, tensor in state.items():
        name = name.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")
        name = name.replace(".weight_g", ".parametrizations.weight.original0")
        name = name.replace(".weight_v", ".parametrizations.weight.original1")
        name = name.replace(".positional_embedding", ".positional_embedding.weight")
        renamed[name] = tensor.squeeze() if name.endswith(".inited") else tensor
    return renamed


def test_weight_norm_is_folded_as_torch_folds_it(state: State, wanted: CodecCheckpoint) -> None:
    name = "quantizer.output_proj"
    folded = torch._weight_norm(state[f"{name}.weight_v"], state[f"{name}.weight_g"], 0)
    torch.testing.assert_close(wanted.tensors[f"{name}.weight"], folded)


def test_bare_state_dict_is_read(
    tmp_path: Path, codec_dir: Path, state: State, wanted: CodecCheckpoint
) -> None:
    torch.save(state, tmp_path / "bare.pt")
    assert_same(load(tmp_path / "bare.pt", codec_dir), wanted)


def test_hugging_face_names_in_safetensors_are_read(
    tmp_path: Path, codec_dir: Path, state: State, wanted: CodecCheckpoint
) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(as_published_on_hugging_face(state), str(path))
    assert_same(load(path, codec_dir), wanted)


def test_codec_is_taken_out_of_a_fused_checkpoint(
    tmp_path: Path, codec_dir: Path, state: State, wanted: CodecCheckpoint
) -> None:
    fused = {f"codec_model.{name}": tensor for name, tensor in state.items()}
    fused["model.embedding_list.0.weight"] = torch.zeros(3, 3)
    torch.save(fused, tmp_path / "fused.pt")
    assert_same(load(tmp_path / "fused.pt", codec_dir), wanted)


def test_missing_tensor_is_named_with_the_shape_it_should_have(
    tmp_path: Path, codec_dir: Path, state: State
) -> None:
    del state["upsample.up_conv.weight"]
    torch.save(state, tmp_path / "bad.pt")
    message = r"upsample\.up_conv\.weight: found nothing, wanted \[32, 8, 4\]"
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "bad.pt", codec_dir)


def test_mismatched_tensor_is_named_with_both_shapes(
    tmp_path: Path, codec_dir: Path, state: State
) -> None:
    state["downsample.layer_norm.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "bad.pt")
    message = r"downsample\.layer_norm\.bias: found \[5\], wanted \[32\]"
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "bad.pt", codec_dir)


def test_left_over_tensor_is_named(tmp_path: Path, codec_dir: Path, state: State) -> None:
    state["surprise"] = torch.zeros(5)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(ConfigError, match=r"surprise: found \[5\], wanted nothing"):
        load(tmp_path / "bad.pt", codec_dir)


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_pickle_that_would_run_code_is_refused(
    tmp_path: Path, codec_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": Intruder()}, "bad.pt")
    with pytest.raises(ConfigError, match="no file of tensors: it holds Python objects"):
        load(tmp_path / "bad.pt", codec_dir)
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused(tmp_path: Path, codec_dir: Path) -> None:
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "text.pt").write_text("hello", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    (tmp_path / "empty.pt").touch()
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("data.pkl", "hello")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    for name in (
        "plain.pt",
        "text.pt",
        "text.safetensors",
        "empty.pt",
        "archive.pt",
        "numbers.pt",
        "missing.pt",
    ):
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            load(tmp_path / name, codec_dir)


def test_configuration_faults_are_named(tmp_path: Path, codec_dir: Path) -> None:
    weights = codec_dir / "xy_tokenizer.ckpt"
    with pytest.raises(ConfigError, match="does not exist"):
        load_codec_checkpoint(weights, tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="no yaml"):
        load_codec_checkpoint(weights, tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("- 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="generator_params"):
        load_codec_checkpoint(weights, tmp_path / "config.yaml")
    params = yaml.safe_load((codec_dir / "config.yaml").read_text(encoding="utf-8"))
    del params["generator_params"]["vocos_kwargs"]["n_fft"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(ConfigError, match="n_fft"):
        load_codec_checkpoint(weights, tmp_path / "config.yaml")


def test_hyper_parameters_that_are_not_spoken_are_refused() -> None:
    for section, key, value in (
        ("quantizer_kwargs", "codebook_dim", 8),
        ("vocos_kwargs", "padding", "center"),
        ("vocos_kwargs", "n_fft", 1024),
        ("acoustic_decoder_kwargs", "activation_function", "relu"),
        ("semantic_encoder_kwargs", "scale_embedding", True),
    ):
        params = generator_params(SIZES)
        params[section][key] = value
        with pytest.raises(ConfigError, match=f"{section}.{key} is {value!r}"):
            XyParameters.from_dict(params)


def test_half_precision_is_kept_for_matrices_only(tmp_path: Path, wanted: CodecCheckpoint) -> None:
    path = tmp_path / "codec.safetensors"
    write_codec_weights(wanted.tensors, path, "float16")
    stored = safetensors.torch.load_file(str(path))
    assert stored["downsample.down_proj.weight"].dtype == torch.float16
    assert stored["downsample.layer_norm.weight"].dtype == torch.float32
    assert stored["quantizer.quantizers.0.codebook"].dtype == torch.float32
    with pytest.raises(ConfigError, match="int8"):
        write_codec_weights(wanted.tensors, path, "int8")


def test_tensors_survive_the_way_through_the_file(tmp_path: Path, wanted: CodecCheckpoint) -> None:
    path = tmp_path / "codec.safetensors"
    write_codec_weights(wanted.tensors, path)
    stored = safetensors.torch.load_file(str(path))
    assert stored.keys() == wanted.tensors.keys()
    assert all(torch.equal(stored[n], wanted.tensors[n]) for n in stored)
