# SPDX-License-Identifier: Apache-2.0
"""How TensorRT-LLM names the Qwen3 body and shares it out over GPUs.

The engine holds the body alone: summed embeddings go in, the last hidden state comes out, so
neither embeddings nor heads appear. Names follow a class whose decoder layers and final norm
stand at the top (`layers`, `ln_f`); the layer is TensorRT-LLM's `QWenDecoderLayer`.

    lm.safetensors           TensorRT-LLM                  over R ranks
    qkv_proj                 attention.qkv                 rows of q, k and v, each on its own
    o_proj                   attention.dense               columns
    gate_up_proj             mlp.fc (gate), mlp.gate (up)  rows
    down_proj                mlp.proj                      columns
    norms                    input_layernorm, ..., ln_f    copied

Where a model has fewer key heads than ranks, each key head stands on R / num_kv_heads ranks.
(NVIDIA/TensorRT-LLM, models/qwen/{config,model,convert}.py and models/modeling_utils.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from duologue.runtime.backbone.layout import FINAL_NORM, layer_shapes
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError

ARCHITECTURE = "DuologueQwen3Body"
"""The name under which the engine's class is registered in TensorRT-LLM's MODEL_MAP."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a tensor, and how they are shared out over the ranks.

    Attributes:
        source: name in `lm.safetensors`.
        shape: of the whole tensor there.
        begin, end: the rows that are meant.
        axis: dimension that is cut; None gives the whole to each rank.
        copies: neighbouring ranks that hold the same share.
    """

    source: str
    shape: tuple[int, ...]
    begin: int
    end: int
    axis: int | None = None
    copies: int = 1

    def place_of(self, rank: int, num_ranks: int) -> tuple[slice, ...]:
        """Index of a rank's share within the source."""
        if self.axis is None:
            return (slice(self.begin, self.end),)
        first, last = (self.begin, self.end) if self.axis == 0 else (0, self.shape[1])
        length = (last - first) // (num_ranks // self.copies)
        start = first + (rank // self.copies) * length
        share = slice(start, start + length)
        return (share,) if self.axis == 0 else (slice(self.begin, self.end), share)

    def share_shape(self, num_ranks: int) -> tuple[int, ...]:
        """Sizes of one rank's share."""
        sizes = [self.end - self.begin, *self.shape[1:]]
        if self.axis is not None:
            sizes[self.axis] //= num_ranks // self.copies
        return tuple(sizes)


def rank_layout(lm: LmConfig, num_ranks: int) -> dict[str, tuple[Part, ...]]:
    """TensorRT-LLM's name -> the parts that are joined along rows; the same for every rank.

    Raises:
        ConfigError: the heads or the feed-forward rows do not divide over the ranks.
    """
    _check_divides(lm, num_ranks)
    shapes = layer_shapes(lm)
    layout: dict[str, tuple[Part, ...]] = {}
    for i in range(lm.num_layers):
        prefix = f"layers.{i}."
        for name, pieces in _layer_pieces(lm, num_ranks).items():
            layout[prefix + name] = tuple(
                Part(prefix + source, shapes[source], begin, end, axis, copies)
                for source, begin, end, axis, copies in pieces
            )
    hidden = lm.hidden_size
    return {**layout, "ln_f.weight": (Part(FINAL_NORM, (hidden,), 0, hidden),)}


_Piece = tuple[str, int, int, "int | None", int]


def _layer_pieces(lm: LmConfig, num_ranks: int) -> dict[str, list[_Piece]]:
    """One layer's names -> (source, first row, end row, axis, copies)."""
    hidden, head, ffn = lm.hidden_size, lm.head_dim, lm.intermediate_size
    query, key = lm.num_heads * head, lm.num_kv_heads * head
    copies = max(1, num_ranks // lm.num_kv_heads)
    qkv, gate_up = "qkv_proj.weight", "gate_up_proj.weight"
    return {
        "input_layernorm.weight": [("input_layernorm.weight", 0, hidden, None, 1)],
        "attention.qkv.weight": [
            (qkv, 0, query, 0, 1),
            (qkv, query, query + key, 0, copies),
            (qkv, query + key, query + 2 * key, 0, copies),
        ],
        "attention.q_layernorm.weight": [("q_norm.weight", 0, head, None, 1)],
        "attention.k_layernorm.weight": [("k_norm.weight", 0, head, None, 1)],
        "attention.dense.weight": [("o_proj.weight", 0, hidden, 1, 1)],
        "post_layernorm.weight": [("post_attention_layernorm.weight", 0, hidden, None, 1)],
        "mlp.fc.weight": [(gate_up, 0, ffn, 0, 1)],
        "mlp.gate.weight": [(gate_up, ffn, 2 * ffn, 0, 1)],
        "mlp.proj.weight": [("down_proj.weight", 0, hidden, 1, 1)],
    }


def _check_divides(lm: LmConfig, num_ranks: int) -> None:
    if num_ranks < 1:
        raise ConfigError(f"tensor_parallel is {num_ranks}; allowed: 1 or more")
    for field, size in (("num_heads", lm.num_heads), ("intermediate_size", lm.intermediate_size)):
        if size % num_ranks:
            raise ConfigError(
                f"tensor_parallel is {num_ranks}; allowed: divisors of lm.{field} = {size}"
            )
    keys = lm.num_kv_heads
    if keys % num_ranks and num_ranks % keys:
        raise ConfigError(
            f"tensor_parallel is {num_ranks}; allowed: divisors or multiples of "
            f"lm.num_kv_heads = {keys}"
        )


def checkpoint_config(lm: LmConfig, dtype: str, num_ranks: int) -> dict[str, Any]:
    """What `config.json` of the checkpoint says; the ranks' own number is not in it.

    Args:
        lm: shape of the model.
        dtype: "float32", "float16" or "bfloat16".
        num_ranks: tensor-parallel size.
    """
    return {
        "architecture": ARCHITECTURE,
        "dtype": dtype,
        "logits_dtype": "float32",
        "qwen_type": "qwen3",
        "hidden_size": lm.hidden_size,
        "intermediate_size": lm.intermediate_size,
        "num_hidden_layers": lm.num_layers,
        "num_attention_heads": lm.num_heads,
        "num_key_value_heads": lm.num_kv_heads,
        "head_size": lm.head_dim,
        "vocab_size": None,
        "hidden_act": "silu",
        "norm_epsilon": lm.rms_norm_eps,
        "qk_layernorm": True,
        "attn_bias": False,
        "mlp_bias": False,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": lm.rope_theta,
        "rotary_scaling": None,
        "max_position_embeddings": lm.max_position_embeddings,
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
        "share_embedding_table": False,
        "mapping": {"world_size": num_ranks, "tp_size": num_ranks, "pp_size": 1, "cp_size": 1},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }


def body_config(config: dict[str, Any]) -> LmConfig:
    """The body's shape as `config.json` tells it; it knows no channels, so one stands in.

    Raises:
        ConfigError: a field is missing, or the checkpoint is of another architecture.
    """
    if config.get("architecture") != ARCHITECTURE:
        found = config.get("architecture")
        raise ConfigError(f"architecture is {found!r}; allowed: {ARCHITECTURE!r}")
    try:
        return LmConfig(
            vocab_sizes=(1,),
            delays=(0,),
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config["num_key_value_heads"],
            head_dim=config["head_size"],
            rms_norm_eps=config["norm_epsilon"],
            rope_theta=config["rotary_base"],
            max_position_embeddings=config["max_position_embeddings"],
        )
    except KeyError as error:
        raise ConfigError(f"config.json of the checkpoint lacks {error}") from error
