# SPDX-License-Identifier: Apache-2.0
"""Rotary position tables, one for all engines.

Source: huggingface/transformers, `modeling_rope_utils.py` (default type): frequencies and angles
are float32 there, so the angle is rounded before its cosine is taken; so it is here.
"""

from __future__ import annotations

import numpy as np

from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray


def rotary_tables(lm: LmConfig, num_rows: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines for the positions 0 .. num_rows - 1.

    The halves of a head are rotated against each other: element i with element
    i + head_dim / 2.

    Args:
        lm: gives head_dim and rope_theta.
        num_rows: R.

    Returns:
        Two tables [R, head_dim / 2].
    """
    exponents = np.arange(0, lm.head_dim, 2) / lm.head_dim
    frequencies = (1.0 / lm.rope_theta**exponents).astype(np.float32)
    angles = np.arange(num_rows, dtype=np.float32)[:, None] * frequencies
    wide = angles.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)
