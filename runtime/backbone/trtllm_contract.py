# SPDX-License-Identifier: Apache-2.0
"""The tensors of the body's engine: names, types, shapes, and which of them lie on the host.

Paged KV cache, packed rows, attention plugin, one pipeline stage, no beams. Sources:
NVIDIA/TensorRT-LLM, models/generation_mixin.py (names and shapes) and
cpp/tensorrt_llm/batch_manager/runtimeBuffers.cpp (what a step is filled with).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from duologue.runtime.errors import EngineUnavailableError

HIDDEN_IN = "hidden_states_input"
HIDDEN_OUT = "hidden_states_output"
WORKSPACE = "all_reduce_workspace"
"""Input of engines that are split over ranks."""
MODEL_DTYPE = "model"


@dataclass(frozen=True, slots=True)
class TensorRule:
    """What a tensor must be.

    Attributes:
        dtype: numpy's name, or "model" for the engine's precision.
        shape: sizes, or letters and names for those that vary: T rows, B sequences.
        on_host: it is read by the CPU.
    """

    dtype: str
    shape: tuple[int | str, ...]
    on_host: bool = False


_BLOCKS: tuple[int | str, ...] = (1, "B", 2, "max_blocks")
INPUTS: dict[str, TensorRule] = {
    HIDDEN_IN: TensorRule(MODEL_DTYPE, ("T", "hidden")),
    "position_ids": TensorRule("int32", ("T",)),
    "last_token_ids": TensorRule("int32", ("B",)),
    "sequence_length": TensorRule("int32", ("B",)),
    "context_lengths": TensorRule("int32", ("B",)),
    "cache_indirection": TensorRule("int32", ("B", 1, "max_seq_len")),
    "kv_cache_block_offsets": TensorRule("int32", _BLOCKS),
    "host_kv_cache_block_offsets": TensorRule("int32", _BLOCKS, on_host=True),
    "host_kv_cache_pool_pointers": TensorRule("int64", (1, 2), on_host=True),
    "host_kv_cache_pool_mapping": TensorRule("int32", ("layers", 2), on_host=True),
    "host_past_key_value_lengths": TensorRule("int32", ("B",), on_host=True),
    "host_context_lengths": TensorRule("int32", ("B",), on_host=True),
    "host_request_types": TensorRule("int32", ("B",), on_host=True),
    "host_max_attention_window_sizes": TensorRule("int32", ("layers",), on_host=True),
    "host_sink_token_length": TensorRule("int32", (1,), on_host=True),
    "host_runtime_perf_knobs": TensorRule("int64", (16,), on_host=True),
    "host_context_progress": TensorRule("int64", (1,), on_host=True),
}
OUTPUTS: dict[str, TensorRule] = {HIDDEN_OUT: TensorRule(MODEL_DTYPE, ("B", "hidden"))}
MAY_BE_PRUNED = frozenset({"position_ids"})
"""The attention plugin takes positions from the lengths; a builder may leave this input out."""


@dataclass(frozen=True, slots=True)
class NameDifference:
    """How an engine's tensors differ from the contract; both empty when they do not.

    Attributes:
        missing: in the contract only.
        extra: in the engine only.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)


def compare_names(found: Collection[str], num_ranks: int) -> NameDifference:
    """Compare an engine's tensors with the contract.

    Args:
        found: names of its inputs and outputs.
        num_ranks: over which it is split.
    """
    wanted = {*INPUTS, *OUTPUTS} | ({WORKSPACE} if num_ranks > 1 else set())
    missing = sorted(wanted - set(found) - MAY_BE_PRUNED)
    return NameDifference(tuple(missing), tuple(sorted(set(found) - wanted)))


def require_names(found: Collection[str], num_ranks: int) -> None:
    """Refuse an engine whose tensors are others than those that we feed.

    Raises:
        EngineUnavailableError: lists what is missing and what is extra.
    """
    difference = compare_names(found, num_ranks)
    if difference:
        raise EngineUnavailableError(
            "the TensorRT-LLM engine has other tensors than this version of duologue feeds: "
            f"missing {list(difference.missing)}, extra {list(difference.extra)}; "
            "build it again with duologue build, and with a tensorrt_llm that the manual names"
        )
