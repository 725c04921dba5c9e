from __future__ import annotations

from typing import Any

import torch

from tensorrt_llm.functional import Tensor

_FIELDS = {
    "gpt_attention_plugin": "auto",
    "gemm_plugin": None,
    "remove_input_padding": True,
    "paged_kv_cache": None,
    "tokens_per_block": 32,
    "context_fmha": True,
    "use_paged_context_fmha": True,
}


class PluginConfig:
    def __init__(self) -> None:
        self.__dict__.update(_FIELDS)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in _FIELDS, name
        super().__setattr__(name, value)


class _AllReduceHelper:
    def set_workspace_tensor(self, mapping: Any, num_profiles: int) -> None:
        assert num_profiles == 1
        size = 7 * mapping.tp_size + 2
        ranges = {"all_reduce_size": [[size, size, size]]}
        Tensor("all_reduce_workspace", "trt.int64", [size], ranges)


def current_all_reduce_helper() -> _AllReduceHelper:
    return _AllReduceHelper()


class CustomAllReduceHelper:
    @staticmethod
    def max_workspace_size_auto(tp_size: int) -> int:
        return 1 << 20

    @staticmethod
    def allocate_workspace(mapping: Any, num_bytes: int) -> tuple[list[bytes], torch.Tensor]:
        assert num_bytes == 1 << 20
        return [b"buffer"], torch.zeros(7 * mapping.tp_size + 2, dtype=torch.int64)
