# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the tensors in a bundle's `lm.safetensors`.

Close to the names of the reference checkpoint, with three joins along the rows, so that each is
one matrix product: the K embeddings (which are the heads too, unless the heads are untied), the
query, key and value projections, and the gate and up projections. Projections are [out, in].

A copy for the torch engine may hold its matrices in 8 bits (`matrix_shapes`, the heads always as a
table of their own), each with a scale per row under `scales_name`.
"""

from __future__ import annotations

from duologue.runtime.config import LmConfig

EMBEDDING = "embedding.weight"
HEAD = "head.weight"
FINAL_NORM = "norm.weight"


def lm_shapes(lm: LmConfig) -> dict[str, tuple[int, ...]]:
    """All tensors of the language model in their stable order: name -> shape."""
    hidden = lm.hidden_size
    table = (lm.logit_offsets[-1], hidden)
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: table}
    for layer in range(lm.num_layers):
        for name, shape in layer_shapes(lm).items():
            shapes[f"layers.{layer}.{name}"] = shape
    shapes[FINAL_NORM] = (hidden,)
    if not lm.tied_heads:
        shapes[HEAD] = table
    return shapes


def layer_shapes(lm: LmConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer without their prefix `layers.{i}.`: name -> shape."""
    hidden, inner = lm.hidden_size, lm.intermediate_size
    query, key = lm.num_heads * lm.head_dim, lm.num_kv_heads * lm.head_dim
    return {
        "input_layernorm.weight": (hidden,),
        "qkv_proj.weight": (query + 2 * key, hidden),
        "q_norm.weight": (lm.head_dim,),
        "k_norm.weight": (lm.head_dim,),
        "o_proj.weight": (hidden, query),
        "post_attention_layernorm.weight": (hidden,),
        "gate_up_proj.weight": (2 * inner, hidden),
        "down_proj.weight": (hidden, inner),
    }


def matrix_shapes(lm: LmConfig) -> dict[str, tuple[int, int]]:
    """What values are multiplied with: projections, and the heads as `HEAD`: name -> [out, in]."""
    shapes = lm_shapes(lm)
    table = shapes.pop(EMBEDDING)
    matrices = {**shapes, HEAD: table}
    return {name: (shape[0], shape[1]) for name, shape in matrices.items() if len(shape) > 1}


def scales_name(name: str) -> str:
    """Name of the scales [out] of a matrix in 8 bits."""
    return f"{name}.scales"


def head_name(lm: LmConfig) -> str:
    """Name of the table [sum(V_c), hidden] that turns the last hidden state into logits."""
    return EMBEDDING if lm.tied_heads else HEAD
