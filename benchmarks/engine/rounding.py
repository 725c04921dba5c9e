# SPDX-License-Identifier: Apache-2.0
"""Does a choice stand so near to another that rounding decides?

Sums of float32 numbers in another order differ in their last bits. A draw that falls on the border
between two ids, or a filter's border between keeping and dropping one, then goes either way, and
the rest of the sequence with it. Among thousands of draws there are such: they are no fault.
"""

from __future__ import annotations

import copy

import numpy as np

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.core import IntArray, Logits
from duologue.runtime.device_blocks import choose_on_host
from duologue.runtime.lm.sequence import Sequence

_ROUNDING = 1e-5
"""Of the largest score: a hundred times float32's own step."""
_NUM_TRIALS = 64


def is_near(reference: Backbone, sequence: Sequence, rows: IntArray, other: IntArray) -> bool:
    """Whether scores that differ by rounding alone choose another row.

    Args:
        reference: with an empty slot 0, which is empty again afterwards.
        sequence: not begun; it is written on to where the rows end.
        rows: [S, K], what the reference wrote up to the row in question.
        other: [K], the row that somebody else wrote there.
    """
    logits = _scores_behind(reference, sequence, rows)
    generator = np.random.default_rng(0)
    size = _ROUNDING * np.abs(logits.values[np.isfinite(logits.values)]).max()
    for _ in range(_NUM_TRIALS):
        noise = generator.uniform(-size, size, logits.values.shape).astype(np.float32)
        noisy, trial = Logits(logits.values + noise, logits.offsets), copy.deepcopy(sequence)
        trial.append(choose_on_host([trial], noisy).chosen[0])
        if np.array_equal(trial.new_rows[-1], other):
            return True
    return False


def _scores_behind(reference: Backbone, sequence: Sequence, rows: IntArray) -> Logits:
    logits = reference.prefill(0, sequence.prompt_rows)
    assert logits is not None
    for row in rows:
        sequence.append(choose_on_host([sequence], logits).chosen[0])
        assert np.array_equal(sequence.new_rows[-1], row), "the reference writes the same again"
        logits = reference.decode([0], row[None])
    reference.release(0)
    return logits
