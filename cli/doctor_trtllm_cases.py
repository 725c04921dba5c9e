# SPDX-License-Identifier: Apache-2.0
"""The ways in which rows reach an engine, each compared between TensorRT-LLM and torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from duologue.runtime.diagnosis.finding import Finding, fault, ok

if TYPE_CHECKING:
    from duologue.runtime.backbone.base import Backbone
    from duologue.runtime.backbone.ranks_body import BodyBackbone
    from duologue.runtime.core import FloatArray, IntArray

TOPIC = "trtllm"
PROMPT_ROWS, FIRST_PIECE = 100, 37
NUM_SLOTS = 4
_PIECES_REMEDY = (
    "TensorRT-LLM has no attention kernel on this GPU that looks back at earlier pieces of a "
    "prompt: use --engine torch"
)
_OTHER_REMEDY = (
    "use --engine torch, and report the versions: names or order of the weights may have changed"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A way in which rows reach the engine.

    Attributes:
        name: for people.
        run: gives logits or hidden states of ids [PROMPT_ROWS + 1, K].
        remedy: when they differ.
    """

    name: str
    run: Callable[[Any, IntArray], FloatArray]
    remedy: str = _OTHER_REMEDY


def _whole(backbone: Any, ids: IntArray) -> FloatArray:
    hidden: FloatArray = backbone.prefill_hidden(0, ids[:PROMPT_ROWS])
    return hidden


def _in_pieces(backbone: Any, ids: IntArray) -> FloatArray:
    backbone.prefill(1, ids[:FIRST_PIECE], is_last=False)
    hidden: FloatArray = backbone.prefill_hidden(1, ids[FIRST_PIECE:PROMPT_ROWS], FIRST_PIECE)
    return hidden


def _decoded(backbone: Any, ids: IntArray) -> FloatArray:
    backbone.prefill(2, ids[:PROMPT_ROWS], is_last=False)
    values: FloatArray = backbone.decode([2], ids[PROMPT_ROWS:]).values
    return values


def _mixed(backbone: Any, ids: IntArray) -> FloatArray:
    """A prompt in the same step as a decoded row; torch takes them one after the other."""
    backbone.prefill(3, ids[:PROMPT_ROWS], is_last=False)
    row = ids[PROMPT_ROWS:]
    if hasattr(backbone, "mixed"):
        values: FloatArray = backbone.mixed([(0, ids[:FIRST_PIECE], 0)], [3], row).values
        return values
    prompt, decoded = backbone.prefill(0, ids[:FIRST_PIECE]), backbone.decode([3], row)
    return np.concatenate([prompt.values, decoded.values])


CASES = (
    Case("hidden states of a whole prompt", _whole),
    Case("hidden states of a prompt in pieces", _in_pieces, _PIECES_REMEDY),
    Case("logits of a decoded row", _decoded),
    Case("logits of a prompt and a decoded row in one step", _mixed),
)


def compare(
    case: Case, engine: BodyBackbone, reference: Backbone, ids: IntArray, tolerance: float
) -> Finding:
    """Run a case on both engines, and empty their slots.

    Args:
        case: what to run.
        engine: TensorRT-LLM's.
        reference: torch's.
        ids: [PROMPT_ROWS + 1, K].
        tolerance: difference that is allowed, as a share of the largest value.
    """
    found, wanted = (case.run(backbone, ids) for backbone in (engine, reference))
    for backbone in (engine, reference):
        for slot in range(NUM_SLOTS):
            backbone.release(slot)
    difference, largest = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
    said = (
        f"{case.name}: largest difference from torch {difference:.1e}, of values to {largest:.1f}"
    )
    if not difference <= tolerance * largest:
        return fault(TOPIC, said, case.remedy)
    return ok(TOPIC, said)
