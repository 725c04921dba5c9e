"""The graph: small, without weights of its own, the same every time."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from random_lms import GRAPH, WEIGHTS, build_random_lm

from duologue.build_engines.lm_onnx import write_lm_onnx
from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.errors import ConfigError


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_weight_points_to_its_place_in_the_file(tmp_path: Path, dtype: str) -> None:
    lm = build_random_lm(tmp_path, dtype)
    model = onnx.load(tmp_path / GRAPH, load_external_data=False)
    external = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    stored = TensorFile(tmp_path / WEIGHTS)
    assert set(external) == set(lm_shapes(lm)) == set(stored)
    for name, place in external.items():
        assert place["location"] == WEIGHTS
        assert int(place["offset"]) == stored[name].offset
        assert int(place["length"]) == stored[name].data.nbytes


def test_the_graph_is_small_and_the_same_every_time(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    again = tmp_path / "again.onnx"
    write_lm_onnx(lm, tmp_path / WEIGHTS, again)
    assert again.read_bytes() == (tmp_path / GRAPH).read_bytes()
    assert len(again.read_bytes()) < 20_000


def test_inputs_and_outputs_are_named_as_the_engine_binds_them(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    graph = onnx.load(tmp_path / GRAPH, load_external_data=False).graph
    caches = [f"{kind}_{layer}" for layer in range(lm.num_layers) for kind in ("key", "value")]
    inputs = {"input_ids", "position_ids", "seqlens_k", "total_length", "cos", "sin"}
    assert {value.name for value in graph.input} == inputs | {f"past_{name}" for name in caches}
    assert {value.name for value in graph.output} == {"logits", "hidden"} | {
        f"present_{name}" for name in caches
    }


def test_narrow_heads_take_the_path_with_a_sink_and_wide_ones_do_not(tmp_path: Path) -> None:
    for head_dim, num_inputs in ((32, 12), (128, 7)):
        directory = tmp_path / str(head_dim)
        build_random_lm(directory, head_dim=head_dim)
        graph = onnx.load(directory / GRAPH, load_external_data=False).graph
        attention = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
        assert {len(node.input) for node in attention} == {num_inputs}


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    build_random_lm(tmp_path / "other", num_layers=1)
    with pytest.raises(ConfigError, match=r"has no tensor layers\.1\.input_layernorm\.weight"):
        write_lm_onnx(lm, tmp_path / "other" / WEIGHTS, tmp_path / "x.onnx")
