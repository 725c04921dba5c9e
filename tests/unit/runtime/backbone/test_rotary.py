"""Rotary tables equal those of transformers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fakes import LM
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from duologue.runtime.backbone.rotary import rotary_tables


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_tables_equal_the_reference(theta: float) -> None:
    lm = dataclasses.replace(LM, head_dim=128, rope_theta=theta)
    config = Qwen3Config(
        head_dim=128,
        hidden_size=256,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    positions = torch.arange(5000)[None]
    wanted = Qwen3RotaryEmbedding(config)(torch.zeros(1, dtype=torch.float32), positions)
    for got, table in zip(rotary_tables(lm, 5000), wanted, strict=True):
        # The reference rounds its frequencies in float32: at row 5000 an angle may differ by
        # 5000 times half a last place.
        np.testing.assert_allclose(got, table[0, :, :64].numpy(), rtol=0, atol=1e-3)
        np.testing.assert_allclose(got[:100], table[0, :100, :64].numpy(), rtol=0, atol=2e-5)
