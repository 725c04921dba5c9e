# SPDX-License-Identifier: Apache-2.0
"""What the engine is fed in one step besides the embeddings, as numpy arrays.

Rows are packed: those of all prompts, then one per sequence that is decoded; the attention plugin
wants them in this order.

    of a sequence               prompt piece      decode step
    host_request_types          0                 1
    context_lengths             its rows          rows of the whole prompt
    sequence_length             rows afterwards   rows afterwards
    host_past_key_value_lengths rows afterwards   rows before

Source: NVIDIA/TensorRT-LLM, cpp/tensorrt_llm/batch_manager/runtimeBuffers.cpp, setFromInputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.trtllm_blocks import BlockTable

CONTEXT, GENERATION = 0, 1
NUM_PERF_KNOBS = 16
MULTI_BLOCK_MODE = 0
FP32_CONTEXT_ATTENTION = 1

Feed = dict[str, npt.NDArray[Any]]


def packing_order(pieces: Sequence[Piece]) -> list[int]:
    """Indices of the pieces, prompts first."""
    return sorted(range(len(pieces)), key=lambda i: not pieces[i].is_prompt)


@dataclass(frozen=True, slots=True)
class FeedShape:
    """Numbers that every step is fed.

    Attributes:
        num_layers: of the body.
        max_seq_len: rows of a sequence, as the engine was built.
        pool_pointer: address of the KV pool.
    """

    num_layers: int
    max_seq_len: int
    pool_pointer: int


def make_feed(
    pieces: Sequence[Piece],
    prompt_rows: Mapping[int, int],
    table: BlockTable,
    shape: FeedShape,
) -> Feed:
    """Fill the inputs of a step.

    Args:
        pieces: in packing order; their blocks are reserved.
        prompt_rows: slot -> rows of its prompt, for those that are decoded.
        table: of the blocks.
        shape: the rest.

    Returns:
        Name -> values, of every input but the embeddings and the workspace of the ranks.
    """
    lengths = [len(piece.input_ids) for piece in pieces]
    contexts = _int32(
        len(piece.input_ids) if piece.is_prompt else prompt_rows[piece.slot] for piece in pieces
    )
    offsets = table.offsets([piece.slot for piece in pieces], shape.num_layers)
    knobs = np.full(NUM_PERF_KNOBS, -1, np.int64)
    knobs[[MULTI_BLOCK_MODE, FP32_CONTEXT_ATTENTION]] = 1
    return {
        "position_ids": np.concatenate(
            [np.arange(piece.start, piece.stop, dtype=np.int32) for piece in pieces]
        ),
        "last_token_ids": np.cumsum(lengths, dtype=np.int32),
        "sequence_length": _int32(piece.stop for piece in pieces),
        "context_lengths": contexts,
        "cache_indirection": np.zeros((len(pieces), 1, shape.max_seq_len), np.int32),
        "kv_cache_block_offsets": offsets,
        "host_kv_cache_block_offsets": offsets,
        "host_kv_cache_pool_pointers": np.array([[shape.pool_pointer, 0]], np.int64),
        "host_kv_cache_pool_mapping": np.array(
            [[0, layer] for layer in range(shape.num_layers)], np.int32
        ),
        "host_past_key_value_lengths": _int32(
            piece.stop if piece.is_prompt else piece.start for piece in pieces
        ),
        "host_context_lengths": contexts,
        "host_request_types": _int32(
            CONTEXT if piece.is_prompt else GENERATION for piece in pieces
        ),
        "host_max_attention_window_sizes": np.full(shape.num_layers, shape.max_seq_len, np.int32),
        "host_sink_token_length": np.zeros(1, np.int32),
        "host_runtime_perf_knobs": knobs,
        "host_context_progress": np.zeros(1, np.int64),
    }


def _int32(values: Any) -> npt.NDArray[np.int32]:
    return np.fromiter(values, np.int32)
