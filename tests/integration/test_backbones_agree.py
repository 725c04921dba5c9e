"""From a checkpoint on disk to the same logits from both engines, for models unlike v0.7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_lms import build_random_lm, open_backbone, random_ids, teacher_force


@pytest.mark.parametrize(
    "changes",
    [
        {"num_channels": 17, "tied_heads": False, "codebook_size": 64},
        {"num_channels": 1, "num_layers": 1},
        {"head_dim": 16, "num_heads": 5, "num_kv_heads": 5, "rope_theta": 10_000.0},
        {"hidden_size": 64, "head_dim": 32, "num_heads": 8, "num_kv_heads": 1},
        {"head_dim": 128, "num_heads": 2, "num_kv_heads": 1},
    ],
)
def test_random_models_agree(tmp_path: Path, changes: dict[str, Any]) -> None:
    lm = build_random_lm(tmp_path, **changes)
    assert lm.num_channels == changes.get("num_channels", 4)
    ids = random_ids(lm, 60)
    by_torch, by_onnx = (
        teacher_force(open_backbone(engine, lm, tmp_path), 2, ids, 40, [25])
        for engine in ("torch", "onnx")
    )
    assert by_torch.shape == (21, sum(lm.vocab_sizes))
    assert by_torch.std() > 0.1
    np.testing.assert_allclose(by_onnx, by_torch, rtol=0, atol=1e-4)
