"""The repository of GPU hosts, parsed back as protobuf."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import onnx
import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from duologue.model_repository import repository_path
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.gpu_repository import (
    GRAPH,
    PLAN,
    GpuOptions,
    codec_shapes,
    main,
    plan_command,
    write_gpu_repository,
)
from duologue.runtime.supervisor.layout import read_config

NOISE = resolve_bundle("noise")
BUNDLE = Bundle.load(NOISE)


def write(out: Path, **options: object) -> ModelConfig:
    settings = dataclasses.replace(GpuOptions(), **options)
    write_gpu_repository(out, NOISE, settings, {"engine": "torch"})
    return read_config(out / "codec_decoder" / "config.pbtxt")


@pytest.mark.parametrize("decoder", ["python", "cuda", "tensorrt"])
def test_every_model_is_there_and_names_stay(tmp_path: Path, decoder: str) -> None:
    write(tmp_path / "out", decoder=decoder)
    for path in sorted(repository_path().glob("*/config.pbtxt")):
        ours = read_config(tmp_path / "out" / path.parent.name / "config.pbtxt")
        theirs = read_config(path)
        for kind in ("input", "output"):
            found = [(t.name, t.data_type) for t in getattr(ours, kind)]
            assert found == [(t.name, t.data_type) for t in getattr(theirs, kind)]
        assert ours.max_batch_size == theirs.max_batch_size
        assert (tmp_path / "out" / path.parent.name / "1").is_dir()


def test_parameters_reach_the_models(tmp_path: Path) -> None:
    write(tmp_path / "out")
    config = read_config(tmp_path / "out" / "dialogue_tts" / "config.pbtxt")
    assert config.parameters["engine"].string_value == "torch"
    assert config.parameters["bundle"].string_value == str(NOISE.resolve())
    assert config.parameters["sample_rate_hz"].string_value == "24000"
    assert config.model_transaction_policy.decoupled


@pytest.mark.parametrize("gpus", [(0,), (0, 1)])
def test_the_codec_runs_on_the_gpus_and_the_door_does_not(
    tmp_path: Path, gpus: tuple[int, ...]
) -> None:
    write(tmp_path / "out", gpus=gpus)
    for model in ("codec_encoder", "codec_decoder"):
        (group,) = read_config(tmp_path / "out" / model / "config.pbtxt").instance_group
        assert (group.kind, group.count, tuple(group.gpus)) == (
            ModelInstanceGroup.KIND_GPU,
            1,
            gpus,
        )
    (group,) = read_config(tmp_path / "out" / "dialogue_tts" / "config.pbtxt").instance_group
    assert group.kind == ModelInstanceGroup.KIND_CPU


def test_the_tensorrt_provider_is_told_shapes_precision_and_cache(tmp_path: Path) -> None:
    config = write(tmp_path / "out", cache_dir=Path("/cache"))
    assert (config.backend, config.default_model_filename) == ("onnxruntime", GRAPH)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "precision_mode": "FP32",
        "max_workspace_size_bytes": "1073741824",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache",
        "trt_timing_cache_enable": "1",
        "trt_profile_min_shapes": "CODES:1x8x1",
        "trt_profile_opt_shapes": "CODES:8x8x37",
        "trt_profile_max_shapes": "CODES:64x8x375",
    }


def test_norms_stay_in_fp32_at_half_precision(tmp_path: Path) -> None:
    config = write(tmp_path / "out", precision="FP16")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_layer_norm_fp32_fallback"] == "1"


def test_cuda_alone_has_no_accelerator(tmp_path: Path) -> None:
    config = write(tmp_path / "out", decoder="cuda")
    assert not config.HasField("optimization")
    assert config.HasField("dynamic_batching")


def test_the_graph_lies_beside_its_weights_and_fits_the_config(tmp_path: Path) -> None:
    config = write(tmp_path / "out")
    folder = tmp_path / "out" / "codec_decoder" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["codec.safetensors", GRAPH]
    graph = onnx.load(folder / GRAPH).graph
    for ours, theirs in zip(
        (*config.input, *config.output), (*graph.input, *graph.output), strict=True
    ):
        assert ours.name == theirs.name
        sizes = [size.dim_value or -1 for size in theirs.type.tensor_type.shape.dim]
        assert [-1, *ours.dims] == sizes
    assert not config.parameters


def test_a_plan_is_served_by_the_tensorrt_backend(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(NOISE, bundle)
    options = GpuOptions("plan")
    with pytest.raises(ConfigError, match=r"codec_decoder\.plan does not exist.*trtexec --onnx="):
        write_gpu_repository(tmp_path / "none", bundle, options)
    (bundle / PLAN).write_bytes(b"plan")
    write_gpu_repository(tmp_path / "out", bundle, options)
    config = read_config(tmp_path / "out" / "codec_decoder" / "config.pbtxt")
    assert (config.backend, config.default_model_filename) == ("tensorrt", PLAN)
    folder = tmp_path / "out" / "codec_decoder" / "1"
    assert [path.name for path in folder.iterdir()] == [PLAN]


def test_the_plan_is_built_for_all_windows_of_the_ladder() -> None:
    shapes = codec_shapes(BUNDLE)
    line = plan_command(BUNDLE, Path("/bundle"))
    assert line[:3] == [
        "trtexec",
        "--onnx=/bundle/codec_decoder.onnx",
        "--saveEngine=/bundle/codec_decoder.plan",
    ]
    assert line[3:] == [
        f"--minShapes={shapes.smallest}",
        f"--optShapes={shapes.usual}",
        f"--maxShapes={shapes.largest}",
    ]
    longest = max(step.left + step.hop + step.right for step in BUNDLE.windows.steps)
    assert int(shapes.largest.rpartition("x")[2]) >= longest


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"decoder": "openvino"}, "decoder"),
        ({"precision": "INT8"}, "precision"),
        ({"gpus": ()}, "gpus"),
    ],
)
def test_what_is_not_offered_is_refused(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field} is"):
        dataclasses.replace(GpuOptions(), **options)


def test_the_command_writes_a_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--bundle", "noise", "--out", str(tmp_path / "out"), "--decoder", "cuda", "--gpu", "1"]
    assert main(line) == 0
    config = read_config(tmp_path / "out" / "codec_decoder" / "config.pbtxt")
    assert (config.backend, list(config.instance_group[0].gpus)) == ("onnxruntime", [1])
    assert main(["--bundle", "noise", "--out", str(tmp_path / "two"), "--decoder", "plan"]) == 2
    assert "trtexec" in capsys.readouterr().err
