from __future__ import annotations

from typing import Any

from tensorrt_llm.functional import Tensor
from tensorrt_llm.network import default_net


class _Params:
    FIELDS: tuple[str, ...] = ()

    def __init__(self, **fields: Any) -> None:
        assert set(fields) == set(self.FIELDS), set(fields) ^ set(self.FIELDS)
        self.__dict__.update(fields)


class KeyValueCacheParams(_Params):
    FIELDS = (
        "past_key_value",
        "host_past_key_value_lengths",
        "host_max_attention_window_sizes",
        "host_sink_token_length",
        "kv_cache_block_offsets",
        "host_kv_cache_block_offsets",
        "host_kv_cache_pool_pointers",
        "host_kv_cache_pool_mapping",
        "cache_indirection",
    )


class AttentionParams(_Params):
    FIELDS = (
        "sequence_length",
        "context_lengths",
        "host_context_lengths",
        "max_context_length",
        "host_request_types",
        "host_runtime_perf_knobs",
        "host_context_progress",
    )
    has_rotary_tables = False


class Attention:
    @staticmethod
    def create_attention_const_params(model: Any, config: Any) -> None:
        assert config.position_embedding_type == "rope_gpt_neox"
        model.rotary_base = config.rotary_base

    @staticmethod
    def fill_attention_params(model: Any, params: AttentionParams) -> AttentionParams:
        assert model.position_embedding_type == "rope_gpt_neox"
        assert model.rotary_base > 0
        params.has_rotary_tables = True
        return params


class RmsNorm:
    def __init__(self, *, normalized_shape: int, eps: float, dtype: str) -> None:
        self.shapes = {"weight": (normalized_shape,)}
        assert 0 < eps < 1
        assert dtype in ("float32", "float16", "bfloat16")

    def __call__(self, hidden_states: Tensor) -> Tensor:
        default_net().steps.append("norm")
        return Tensor()
