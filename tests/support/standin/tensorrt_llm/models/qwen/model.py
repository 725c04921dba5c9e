from __future__ import annotations

from typing import Any

from tensorrt_llm.models.qwen.config import QWenConfig


class QWenDecoderLayer:
    """Parameters of one layer on one rank."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        assert isinstance(config, QWenConfig)
        assert config.qwen_type == "qwen3"
        size, hidden = config.mapping.tp_size, config.hidden_size
        heads = config.num_attention_heads // size
        kv_heads = max(1, config.num_key_value_heads // size)
        inner, dim = config.intermediate_size // size, config.head_size
        self.shapes = {
            "input_layernorm.weight": (hidden,),
            "attention.qkv.weight": ((heads + 2 * kv_heads) * dim, hidden),
            "attention.q_layernorm.weight": (dim,),
            "attention.k_layernorm.weight": (dim,),
            "attention.dense.weight": (hidden, heads * dim),
            "post_layernorm.weight": (hidden,),
            "mlp.fc.weight": (inner, hidden),
            "mlp.gate.weight": (inner, hidden),
            "mlp.proj.weight": (hidden, inner),
        }
