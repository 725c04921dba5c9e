from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duologue.build_engines.safetensors_writer import TensorEntry, write_safetensors
from duologue.build_engines.trtllm_checkpoint import (
    read_trtllm_checkpoint,
    write_trtllm_checkpoint,
)
from duologue.build_engines.trtllm_layout import ARCHITECTURE
from duologue.runtime.backbone.layout import EMBEDDING, lm_shapes
from duologue.runtime.backbone.tensor_file import TensorFile, float32_to_bfloat16
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError

LM = LmConfig(
    vocab_sizes=(50, 9),
    delays=(0, 1),
    hidden_size=12,
    intermediate_size=24,
    num_layers=2,
    num_heads=8,
    num_kv_heads=2,
    head_dim=4,
    rope_theta=10_000.0,
)


def write_source(path: Path, lm: LmConfig = LM, dtype: str = "F32") -> TensorFile:
    rng = np.random.default_rng(7)
    values = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in lm_shapes(lm).items()
    }
    stored = {
        "F32": lambda array: array,
        "F16": lambda array: array.astype(np.float16),
        "BF16": float32_to_bfloat16,
    }[dtype]
    entries = [TensorEntry(name, dtype, array.shape) for name, array in values.items()]
    write_safetensors(path, entries, lambda name: [stored(values[name])])
    return TensorFile(path)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("source", "dtype"), [("F32", "float32"), ("BF16", "bfloat16"), ("F16", "float16")]
)
def test_the_inverse_gives_back_every_bit_of_the_body(
    tmp_path: Path, ranks: int, source: str, dtype: str
) -> None:
    file = write_source(tmp_path / "lm.safetensors", dtype=source)
    write_trtllm_checkpoint(file, LM, tmp_path / "out", dtype=dtype, tensor_parallel=ranks)
    body = read_trtllm_checkpoint(tmp_path / "out")
    assert set(body) == set(lm_shapes(LM)) - {EMBEDDING}
    for name, values in body.items():
        assert values.dtype == file[name].data.dtype
        assert values.tobytes() == file[name].data.tobytes(), name


def test_neither_embeddings_nor_heads_are_written(tmp_path: Path) -> None:
    write_trtllm_checkpoint(write_source(tmp_path / "lm.safetensors"), LM, tmp_path / "out")
    names = set(TensorFile(tmp_path / "out" / "rank0.safetensors"))
    assert {name for name in names if not name.startswith("layers.1.")} == {
        "layers.0.input_layernorm.weight",
        "layers.0.attention.qkv.weight",
        "layers.0.attention.q_layernorm.weight",
        "layers.0.attention.k_layernorm.weight",
        "layers.0.attention.dense.weight",
        "layers.0.post_layernorm.weight",
        "layers.0.mlp.fc.weight",
        "layers.0.mlp.gate.weight",
        "layers.0.mlp.proj.weight",
        "ln_f.weight",
    }


@pytest.mark.parametrize(
    ("ranks", "qkv", "dense", "fc", "proj"),
    [
        (1, (48, 12), (12, 32), (24, 12), (12, 24)),
        (2, (24, 12), (12, 16), (12, 12), (12, 12)),
        # Four ranks share two key heads: 8 rows of q, and a whole head of k and of v.
        (4, (16, 12), (12, 8), (6, 12), (12, 6)),
    ],
)
def test_each_rank_holds_its_share(
    tmp_path: Path,
    ranks: int,
    qkv: tuple[int, int],
    dense: tuple[int, int],
    fc: tuple[int, int],
    proj: tuple[int, int],
) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    write_trtllm_checkpoint(source, LM, tmp_path / "out", tensor_parallel=ranks)
    assert len(list((tmp_path / "out").glob("rank*.safetensors"))) == ranks
    for rank in range(ranks):
        file = TensorFile(tmp_path / "out" / f"rank{rank}.safetensors")
        layer = "layers.1."
        assert file[layer + "attention.qkv.weight"].shape == qkv
        assert file[layer + "attention.dense.weight"].shape == dense
        assert file[layer + "mlp.fc.weight"].shape == fc
        assert file[layer + "mlp.gate.weight"].shape == fc
        assert file[layer + "mlp.proj.weight"].shape == proj
        assert file["ln_f.weight"].shape == (12,)


def test_a_rank_holds_its_own_query_rows_and_the_key_head_they_look_at(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    write_trtllm_checkpoint(source, LM, tmp_path / "out", dtype="float32", tensor_parallel=4)
    whole = source["layers.0.qkv_proj.weight"].data
    query, key, value = whole[:32], whole[32:40], whole[40:]
    gate_up = source["layers.0.gate_up_proj.weight"].data
    # Query heads 4 and 5 are rank 2's; eight query heads on two key heads look at head 1.
    file = TensorFile(tmp_path / "out" / "rank2.safetensors")
    qkv = file["layers.0.attention.qkv.weight"].data
    np.testing.assert_array_equal(qkv, np.concatenate([query[16:24], key[4:], value[4:]]))
    np.testing.assert_array_equal(file["layers.0.mlp.fc.weight"].data, gate_up[12:18])
    np.testing.assert_array_equal(file["layers.0.mlp.gate.weight"].data, gate_up[36:42])
    dense = source["layers.0.o_proj.weight"].data
    np.testing.assert_array_equal(file["layers.0.attention.dense.weight"].data, dense[:, 16:24])


def test_the_shares_of_all_ranks_compute_what_the_whole_computes(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    write_trtllm_checkpoint(source, LM, tmp_path / "out", dtype="float32", tensor_parallel=4)
    rows = np.random.default_rng(1).standard_normal((5, LM.hidden_size)).astype(np.float32)

    def feed_forward(gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
        gated = rows @ gate.T
        return (gated / (1 + np.exp(-gated)) * (rows @ up.T)) @ down.T

    gate_up = source["layers.0.gate_up_proj.weight"].data
    whole = feed_forward(gate_up[:24], gate_up[24:], source["layers.0.down_proj.weight"].data)
    files = [TensorFile(tmp_path / "out" / f"rank{rank}.safetensors") for rank in range(4)]
    shared = sum(
        feed_forward(*(file[f"layers.0.mlp.{part}.weight"].data for part in ("fc", "gate", "proj")))
        for file in files
    )
    np.testing.assert_allclose(shared, whole, rtol=1e-4, atol=1e-4)


def test_config_tells_the_engine_what_it_must_know(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    write_trtllm_checkpoint(source, LM, tmp_path / "out", dtype="bfloat16", tensor_parallel=2)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == ARCHITECTURE
    assert config["dtype"] == "bfloat16"
    assert config["rotary_base"] == 10_000.0
    assert config["head_size"] == 4
    assert config["num_key_value_heads"] == 2
    assert config["attn_bias"] is False
    assert config["mapping"] == {"world_size": 2, "tp_size": 2, "pp_size": 1, "cp_size": 1}


@pytest.mark.parametrize("ranks", [0, -1, 3, 5, 16])
def test_a_number_of_gpus_that_does_not_divide_is_refused(tmp_path: Path, ranks: int) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    with pytest.raises(ConfigError, match="tensor_parallel"):
        write_trtllm_checkpoint(source, LM, tmp_path / "out", tensor_parallel=ranks)
    assert not (tmp_path / "out").exists()


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    with pytest.raises(ConfigError, match=r"int4.*float32, float16, bfloat16"):
        write_trtllm_checkpoint(source, LM, tmp_path / "out", dtype="int4")


def test_weights_of_another_model_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    smaller = LmConfig(**{**_fields(LM), "intermediate_size": 16})
    source = write_source(tmp_path / "lm.safetensors", smaller)
    with pytest.raises(ConfigError, match="gate_up_proj"):
        write_trtllm_checkpoint(source, LM, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ranks_that_disagree_about_a_shared_tensor_are_found(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    out = tmp_path / "out"
    write_trtllm_checkpoint(source, LM, out, dtype="float32", tensor_parallel=2)
    path = out / "rank1.safetensors"
    file = TensorFile(path)
    begin = file["ln_f.weight"].offset
    content = bytearray(path.read_bytes())
    content[begin] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"norm\.weight differs between rank 0 and 1"):
        read_trtllm_checkpoint(out)


def test_a_rank_cut_short_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "lm.safetensors")
    out = tmp_path / "out"
    write_trtllm_checkpoint(source, LM, out, tensor_parallel=2)
    path = out / "rank1.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="rank1"):
        read_trtllm_checkpoint(out)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mapping": {"tp_size": 1}}'])
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json|architecture"):
        read_trtllm_checkpoint(tmp_path)


def test_a_large_value_becomes_infinite_in_float16_and_survives_in_bfloat16(
    tmp_path: Path,
) -> None:
    lm = LmConfig(**{**_fields(LM), "num_layers": 1})
    entries = [TensorEntry(name, "F32", shape) for name, shape in lm_shapes(lm).items()]
    shapes = lm_shapes(lm)
    write_safetensors(
        tmp_path / "lm.safetensors",
        entries,
        lambda name: [np.full(shapes[name], 1e30, np.float32)],
    )
    source = TensorFile(tmp_path / "lm.safetensors")
    for dtype in ("float16", "bfloat16"):
        write_trtllm_checkpoint(source, lm, tmp_path / dtype, dtype=dtype)
    assert np.isinf(read_trtllm_checkpoint(tmp_path / "float16")["norm.weight"]).all()
    bits = read_trtllm_checkpoint(tmp_path / "bfloat16")["norm.weight"]
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(values, 1e30, rtol=2**-8)


def _fields(lm: LmConfig) -> dict[str, object]:
    return {name: getattr(lm, name) for name in lm.__dataclass_fields__}
