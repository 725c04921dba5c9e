"""Builds from checkpoints on disk to a bundle that speaks, and what can go wrong on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duologue.build_engines.build import StageEvent, build_bundle
from duologue.build_engines.options import BuildOptions, Quantization
from duologue.build_engines.random_checkpoint import RandomLm, write_random_lm
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.build_engines.trtllm_checkpoint import read_trtllm_checkpoint
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle, WindowConfig, WindowStep
from duologue.runtime.errors import ConfigError, EngineUnavailableError

LM = RandomLm(
    hidden_size=32, num_layers=1, intermediate_size=48, head_dim=16, codebook_size=64, greedy=True
)
CODEC = RandomCodecSizes(codebook_size=64, d_model=16, ffn_dim=24, vocos_dim=16)
FAST = BuildOptions(parity=False)
STAGES = [
    "tokenizer",
    "codec weights",
    "codec graphs",
    "language model weights",
    "language model graph",
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_random_lm(folder / "lm", seed=3, shape=LM)
    write_random_codec(folder / "codec", seed=3, sizes=CODEC)
    return folder


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "out"
    options = BuildOptions(engines=("torch", "onnx", "trtllm"), tensor_parallel=2, name="tiny")
    build_bundle(sources / "lm", sources / "codec", out, options)
    return out


@pytest.fixture
def copies(sources: Path, tmp_path: Path) -> Path:
    """The sources, to be damaged."""
    shutil.copytree(sources, tmp_path / "sources")
    return tmp_path / "sources"


def build(
    sources: Path, out: Path, options: BuildOptions = FAST
) -> tuple[Bundle, list[StageEvent]]:
    events: list[StageEvent] = []
    bundle = build_bundle(sources / "lm", sources / "codec", out, options, progress=events.append)
    return bundle, [event for event in events if event.state != "running"]


def test_a_bundle_holds_what_it_says(built: Path) -> None:
    bundle = verify_bundle(built, hashes=True)
    assert bundle.name == "tiny"
    assert set(bundle.engines) == {"torch", "onnx", "trtllm", "codec_onnx", "codec_torch"}
    assert set(bundle.files) == {
        "tokenizer.json",
        "lm.safetensors",
        "lm.onnx",
        "codec.safetensors",
        "codec_encoder.onnx",
        "codec_decoder.onnx",
        "trtllm/config.json",
        "trtllm/rank0.safetensors",
        "trtllm/rank1.safetensors",
    }
    on_disk = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert on_disk == {*bundle.files, "bundle.json"}
    assert "<speaker1>" in bundle.prompt.speaker_tokens
    assert bundle.prompt.template.format(system="a", text="b").count("<|") == 5


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_every_engine_of_a_bundle_can_be_loaded(built: Path, engine: str) -> None:
    bundle = verify_bundle(built)
    backbone = load_backbone(bundle, built, engine=engine, max_slots=1, max_rows=8)
    logits = backbone.prefill(0, np.zeros((3, bundle.lm.num_channels), np.int64))
    assert logits is not None
    assert np.isfinite(logits.values).all()
    backbone.close()
    codec = load_codec(bundle, built, engine)
    codes = codec.encode(np.zeros(bundle.codec.input_rate_hz, np.float32))
    assert codec.decode(codes[None]).shape == (1, codes.shape[1] * bundle.codec.samples_per_frame)
    codec.close()


def test_the_engine_that_needs_a_gpu_says_that_it_is_not_built(built: Path) -> None:
    bundle = verify_bundle(built)
    assert bundle.engines["trtllm"]["status"].startswith("not built")
    assert bundle.engines["trtllm"]["tensor_parallel"] == 2
    with pytest.raises(EngineUnavailableError, match="not built"):
        load_backbone(bundle, built, engine="trtllm")


def test_the_tensorrt_llm_checkpoint_holds_the_weights_of_the_bundle(built: Path) -> None:
    weights = TensorFile(built / "lm.safetensors")
    body = read_trtllm_checkpoint(built / "trtllm")
    assert set(body) == set(weights) - {"embedding.weight"}
    for name, values in body.items():
        np.testing.assert_array_equal(values, weights[name].data)


def test_the_parity_report_covers_every_built_engine(built: Path) -> None:
    parity = Bundle.load(built).parity
    assert set(parity) == {"torch", "onnx", "codec_torch", "codec_onnx"}
    for engine in ("torch", "onnx"):
        assert parity[engine]["hidden"]["max_abs_diff"] < 1e-4
        logits = parity[engine]["logits"]
        assert logits["max_abs_diff"] < 1e-3
        assert logits["ids_equal"] == logits["num_ids"] == 5 * LM.num_channels
    for engine in ("codec_torch", "codec_onnx"):
        assert parity[engine]["codes"]["ids_equal"] == parity[engine]["codes"]["num_ids"] == 200
        assert parity[engine]["waveform"]["max_abs_diff"] < 1e-4


def test_the_same_sources_give_the_same_bytes(sources: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(FAST, name="tiny")
    for name in ("a", "b"):
        build(sources, tmp_path / name, options)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrower_precision_halves_the_weights(sources: Path, tmp_path: Path, dtype: str) -> None:
    whole, _ = build(sources, tmp_path / "whole")
    options = dataclasses.replace(FAST, dtype=dtype, codec_dtype=dtype)
    narrow, _ = build(sources, tmp_path / "narrow", options)
    for name in ("lm.safetensors", "codec.safetensors"):
        assert narrow.files[name]["bytes"] < 0.75 * whole.files[name]["bytes"]
    assert narrow.engines["onnx"]["dtype"] == narrow.engines["codec_onnx"]["dtype"] == dtype


@pytest.mark.parametrize(
    ("quantization", "engine", "equal"),
    [("int8", "onnx", 35), ("int4", "onnx", 15), ("int8", "torch", 35), ("fp8", "torch", 30)],
)
def test_few_bits_are_for_the_engines_that_take_them(
    sources: Path, tmp_path: Path, quantization: Quantization, engine: str, equal: int
) -> None:
    options = BuildOptions(engines=("onnx", "torch"), dtype="bfloat16", quantization=quantization)
    bundle, _ = build(sources, tmp_path / "both", options)
    assert bundle.engines[engine]["dtype"] == quantization
    assert bundle.engines[engine]["weights"] in bundle.files
    measured = bundle.parity[engine]["logits"]
    assert 0.0 < measured["max_abs_diff"] < 1.0
    assert measured["ids_equal"] >= equal
    (other,) = {"onnx", "torch"} - {engine}
    if quantization != "int8":
        assert bundle.engines[other]["dtype"] == "bfloat16"
        assert bundle.engines[other]["weights"] == "lm.safetensors"
        assert bundle.parity[other]["logits"]["max_abs_diff"] < 1e-3


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_weights_that_no_engine_reads_are_left_out(
    sources: Path, tmp_path: Path, engine: str
) -> None:
    options = BuildOptions(engines=(engine,), quantization="int8")
    bundle, _ = build(sources, tmp_path / "out", options)
    assert "lm.safetensors" not in bundle.files
    assert not (tmp_path / "out" / "lm.safetensors").exists()
    backbone = load_backbone(bundle, tmp_path / "out", engine=engine, max_slots=1, max_rows=8)
    assert backbone.prefill(0, np.zeros((3, bundle.lm.num_channels), np.int64)) is not None
    backbone.close()


def test_stages_are_told_in_order(sources: Path, tmp_path: Path) -> None:
    _, events = build(sources, tmp_path / "out")
    assert [event.name for event in events] == STAGES
    assert {event.state for event in events} == {"done"}


def test_a_build_that_failed_goes_on_with_the_stage_that_failed(
    copies: Path, tmp_path: Path
) -> None:
    good = (copies / "lm" / "model.safetensors").read_bytes()
    options = dataclasses.replace(FAST, dtype="float16")
    spoil_weight(copies / "lm" / "model.safetensors", 1e9)
    with pytest.raises(ConfigError, match="too large for float16"):
        build(copies, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    (copies / "lm" / "model.safetensors").write_bytes(good)
    _, events = build(copies, tmp_path / "out", options)
    kept = [event.name for event in events if event.state == "kept"]
    assert kept == ["codec weights", "codec graphs"]
    assert verify_bundle(tmp_path / "out", hashes=True)
    assert not (tmp_path / "out.partial").exists()


def spoil_weight(path: Path, value: float) -> None:
    offset = TensorFile(path)["model.language_model.norm.weight"].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = np.float32(value).tobytes()
    path.write_bytes(content)


def test_a_changed_option_rebuilds_only_what_depends_on_it(sources: Path, tmp_path: Path) -> None:
    impossible = dataclasses.replace(FAST, engines=("onnx", "trtllm"), tensor_parallel=3)
    with pytest.raises(ConfigError, match="tensor_parallel is 3"):
        build(sources, tmp_path / "out", impossible)
    options = dataclasses.replace(FAST, engines=("onnx", "trtllm"), dtype="bfloat16")
    _, events = build(sources, tmp_path / "out", options)
    states = {event.name: event.state for event in events}
    assert states == {
        "tokenizer": "kept",
        "codec weights": "kept",
        "codec graphs": "kept",
        "language model weights": "done",
        "language model graph": "done",
        "TensorRT-LLM checkpoint": "done",
    }


LIMITED_BUILD = """
import resource, signal, sys
from pathlib import Path
from duologue.build_engines.build import build_bundle
from duologue.build_engines.options import BuildOptions, Quantization
from duologue.runtime.errors import ConfigError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    build_bundle(*map(Path, sys.argv[1:4]), BuildOptions(parity=False))
except ConfigError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize("full_at", ["tokenizer.json", "codec.safetensors"])
def test_a_full_disk_stops_the_build_and_a_later_call_finishes_it(
    sources: Path, built: Path, tmp_path: Path, full_at: str
) -> None:
    # A limit on the size of files stands in for the disk: writing beyond it fails as well.
    out = tmp_path / "out"
    limit = (built / full_at).stat().st_size - 1
    places = [str(path) for path in (sources / "lm", sources / "codec", out)]
    command = [sys.executable, "-c", LIMITED_BUILD, *places]
    limited = subprocess.run([*command, str(limit)], capture_output=True, text=True, check=False)
    assert limited.returncode == 3, limited.stderr
    assert "the build of" in limited.stdout
    assert not out.exists()
    build(sources, out)
    assert verify_bundle(out, hashes=True)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lm/config.json", r"config\.json is missing"),
        ("lm/model.safetensors", "has no weights"),
        ("codec/xy_tokenizer.ckpt", "one file of codec weights"),
        ("codec/config.yaml", "one file of codec configuration"),
    ],
)
def test_a_missing_source_file_is_named(
    copies: Path, tmp_path: Path, damage: str, message: str
) -> None:
    (copies / damage).unlink()
    with pytest.raises(ConfigError, match=message):
        build(copies, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lm/model.safetensors", "codec/xy_tokenizer.ckpt"])
def test_weights_that_were_cut_short_are_refused(copies: Path, tmp_path: Path, name: str) -> None:
    content = (copies / name).read_bytes()
    (copies / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError):
        build(copies, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_codec_of_another_model_is_refused_before_the_large_weights_are_written(
    copies: Path, tmp_path: Path
) -> None:
    shutil.rmtree(copies / "codec")
    write_random_codec(copies / "codec", seed=1, sizes=dataclasses.replace(CODEC, codebook_size=32))
    with pytest.raises(ConfigError, match="8 channels of 64 codes, the codec 8 of 32"):
        build(copies, tmp_path / "out")
    assert not (tmp_path / "out.partial" / "bundle" / "lm.safetensors").exists()


def test_a_tokenizer_without_the_tokens_of_the_prompt_is_refused(
    copies: Path, tmp_path: Path
) -> None:
    path = copies / "lm" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<speaker2>", "<somebody>"))
    with pytest.raises(ConfigError, match=r"tokenizer lacks .*speaker2"):
        build(copies, tmp_path / "out")


def test_a_tokenizer_without_its_file_is_refused_or_converted(copies: Path, tmp_path: Path) -> None:
    path = copies / "lm" / "tokenizer.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    decoder = {str(token["id"]): {"content": token["content"]} for token in vocabulary}
    path.unlink()
    config = {"added_tokens_decoder": decoder, "tokenizer_class": "PreTrainedTokenizerFast"}
    (copies / "lm" / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="tokenizer"):
        build(copies, tmp_path / "out")


def test_the_files_of_the_codec_may_be_named_one_by_one(copies: Path, tmp_path: Path) -> None:
    (copies / "codec" / "another.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"another\.ckpt, xy_tokenizer\.ckpt; name the file"):
        build(copies, tmp_path / "out")
    (copies / "elsewhere").mkdir()
    config = shutil.move(copies / "codec" / "config.yaml", copies / "elsewhere" / "codec.yaml")
    options = dataclasses.replace(FAST, codec_config=Path(config))
    weights = copies / "codec" / "xy_tokenizer.ckpt"
    bundle = build_bundle(copies / "lm", weights, tmp_path / "out", options)
    assert bundle.codec.codebook_size == 64


def test_windows_and_limits_can_be_asked_for(sources: Path, tmp_path: Path) -> None:
    windows = WindowConfig((WindowStep(7, 3, 2),), crossfade_samples=10)
    options = dataclasses.replace(FAST, windows=windows, max_rows=128, max_slots=3)
    build(sources, tmp_path / "out", options)
    bundle = Bundle.load(tmp_path / "out")
    assert bundle.windows == windows
    assert (bundle.limits.max_rows, bundle.limits.max_slots) == (128, 3)
    options = dataclasses.replace(FAST, max_rows=LM.max_position_embeddings + 1)
    with pytest.raises(ConfigError, match="max_rows is 8193; allowed: up to 8192"):
        build(sources, tmp_path / "other", options)
