# SPDX-License-Identifier: Apache-2.0
"""What a report says of the model that was measured."""

from __future__ import annotations

import math
from typing import Any

from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.config import Bundle


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Name, geometry and engines; `trained` False marks a model that only costs like one.

    True says less: `duologue build` takes every checkpoint for a trained one.
    """
    lm = bundle.lm
    return {
        "name": bundle.name,
        "trained": bundle.trained,
        "lm": {
            "num_layers": lm.num_layers,
            "hidden_size": lm.hidden_size,
            "intermediate_size": lm.intermediate_size,
            "num_heads": lm.num_heads,
            "num_kv_heads": lm.num_kv_heads,
            "head_dim": lm.head_dim,
            "num_channels": lm.num_channels,
            "weights": sum(math.prod(shape) for shape in lm_shapes(lm).values()),
        },
        "engines": {kind: str(entry.get("dtype")) for kind, entry in bundle.engines.items()},
        "windows": [[step.left, step.hop, step.right] for step in bundle.windows.steps],
    }
