# SPDX-License-Identifier: Apache-2.0
"""The Qwen3 body as TensorRT-LLM's builder takes it; imports tensorrt_llm.

Summed embeddings in, the last hidden state of each sequence out: no ids, no vocabulary, no heads.
The decoder layer is TensorRT-LLM's own. Sources: NVIDIA/TensorRT-LLM, models/qwen/model.py,
models/modeling_utils.py and models/recurrentgemma/model.py, which declares its own inputs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tensorrt_llm._common import default_net
from tensorrt_llm._utils import str_dtype_to_trt
from tensorrt_llm.functional import Tensor, gather_last_token_logits
from tensorrt_llm.layers import Attention, AttentionParams, KeyValueCacheParams, RmsNorm
from tensorrt_llm.models import MODEL_MAP
from tensorrt_llm.models.modeling_utils import (
    DecoderLayerList,
    PretrainedModel,
    get_kv_cache_type_from_legacy,
)
from tensorrt_llm.models.qwen.config import QWenConfig
from tensorrt_llm.models.qwen.model import QWenDecoderLayer
from tensorrt_llm.plugin.plugin import current_all_reduce_helper

from duologue.build_engines.trtllm_layout import ARCHITECTURE
from duologue.runtime.backbone.trtllm_contract import HIDDEN_IN, HIDDEN_OUT

_KV_PARAMS = (
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
_ATTENTION_PARAMS = (
    "sequence_length",
    "context_lengths",
    "host_context_lengths",
    "host_request_types",
    "host_runtime_perf_knobs",
    "host_context_progress",
)


class DuologueQwen3Body(PretrainedModel):  # type: ignore[misc]  # an untyped base
    """Decoder layers and the final norm; their names are those of the checkpoint.

    Args:
        config: a `QWenConfig` read from the checkpoint.
    """

    config_class = QWenConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.dtype = str_dtype_to_trt(config.dtype)
        # Rotary tables that all layers share.
        Attention.create_attention_const_params(self, config)
        self.position_embedding_type = config.position_embedding_type
        self.layers = DecoderLayerList(QWenDecoderLayer, config)
        self.ln_f = RmsNorm(
            normalized_shape=config.hidden_size, eps=config.norm_epsilon, dtype=config.dtype
        )

    def forward(
        self,
        hidden_states: Any,
        last_token_ids: Any,
        kv_cache_params: Any,
        attention_params: Any,
    ) -> Any:
        """Build the network.

        Args:
            hidden_states: packed rows [T, hidden size].
            last_token_ids: running sums of the lengths, [B].
            kv_cache_params: inputs of the paged cache.
            attention_params: inputs of the attention plugin.

        Returns:
            [B, hidden size], marked as the engine's output.
        """
        attention_params = Attention.fill_attention_params(self, attention_params)
        hidden_states, _ = self.layers.forward(
            hidden_states,
            use_cache=True,
            kv_cache_params=kv_cache_params,
            attention_params=attention_params,
        )
        hidden_states = self.ln_f(hidden_states)
        last = gather_last_token_logits(
            hidden_states, last_token_ids, default_net().plugin_config.remove_input_padding
        )
        last.mark_output(HIDDEN_OUT, self.dtype)
        return last

    def prepare_inputs(self, **sizes: Any) -> dict[str, Any]:
        """Declare the engine's inputs; called by TensorRT-LLM's builder.

        Args:
            sizes: limits of the build, by the names of `BuildConfig`.

        Returns:
            The arguments of `forward`.
        """
        kv_cache_type = get_kv_cache_type_from_legacy(True, True)
        num_profiles, ranges = self.get_profiles_ranges(
            max_batch_size=sizes["max_batch_size"],
            max_beam_width=1,
            max_input_len=sizes["max_input_len"],
            max_num_tokens=sizes["max_num_tokens"],
            max_draft_len=0,
            opt_batch_size=sizes.get("opt_batch_size"),
            opt_num_tokens=sizes.get("opt_num_tokens"),
            enable_ctx_gen_opt_profiles=False,
            multiple_profiles=False,
            kv_cache_type=kv_cache_type,
        )
        hidden_states, last_token_ids = self._declare_rows(ranges)
        if self.config.mapping.tp_size > 1:
            current_all_reduce_helper().set_workspace_tensor(self.config.mapping, num_profiles)
        declared = self._declare_attention(sizes, num_profiles, kv_cache_type)
        return {
            "hidden_states": hidden_states,
            "last_token_ids": last_token_ids,
            "kv_cache_params": KeyValueCacheParams(**{name: declared[name] for name in _KV_PARAMS}),
            "attention_params": AttentionParams(
                max_context_length=sizes["max_input_len"],
                **{name: declared[name] for name in _ATTENTION_PARAMS},
            ),
        }

    def _declare_rows(self, ranges: dict[str, Any]) -> tuple[Any, Any]:
        hidden, rows = self.config.hidden_size, ranges["num_tokens_range"]
        int32 = str_dtype_to_trt("int32")
        hidden_states = Tensor(
            name=HIDDEN_IN,
            dtype=self.dtype,
            shape=[-1, hidden],
            dim_range=OrderedDict(num_tokens=rows, hidden_size=[hidden] * len(rows)),
        )
        Tensor(
            name="position_ids",
            dtype=int32,
            shape=[-1],
            dim_range=OrderedDict(position_ids_num_tokens_range=rows),
        )
        last_token_ids = Tensor(
            name="last_token_ids",
            dtype=int32,
            shape=[-1],
            dim_range=OrderedDict(batch_size_last_token_ids=ranges["bbd_range"]),
        )
        return hidden_states, last_token_ids

    def _declare_attention(
        self, sizes: dict[str, Any], num_profiles: int, kv_cache_type: Any
    ) -> dict[str, Any]:
        config = self.config
        declared: dict[str, Any] = self.prepare_attention_inputs(
            max_batch_size=sizes["max_batch_size"],
            max_beam_width=1,
            max_input_len=sizes["max_input_len"],
            max_seq_len=sizes["max_seq_len"],
            num_kv_heads=config.num_key_value_heads,
            head_size=config.head_size,
            num_layers=config.num_hidden_layers,
            kv_dtype=str_dtype_to_trt(config.kv_dtype),
            num_profiles=num_profiles,
            enable_ctx_gen_opt_profiles=False,
            remove_input_padding=True,
            use_gpt_attention_plugin=True,
            kv_cache_type=kv_cache_type,
            tokens_per_block=default_net().plugin_config.tokens_per_block,
            mapping=config.mapping,
        )
        return declared


def register() -> None:
    """Make the class known under the checkpoint's architecture; may be called again."""
    MODEL_MAP[ARCHITECTURE] = DuologueQwen3Body
