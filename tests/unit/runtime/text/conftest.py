# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
    WindowConfig,
    WindowStep,
)
from duologue.runtime.core import ChannelSampling
from duologue.runtime.text.tokenizer import TextTokenizer

DATA = Path(__file__).parents[3] / "golden" / "data" / "lm_scaled"


@pytest.fixture(scope="session")
def tokenizer_path() -> Path:
    return DATA / "tokenizer.json"


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path) -> TextTokenizer:
    return TextTokenizer.from_file(tokenizer_path)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """Three channels of 64 codes, with the special ids of the small golden tokenizer."""
    return Bundle(
        name="test",
        lm=LmConfig(
            vocab_sizes=(350, 65, 65),
            delays=(0, 1, 2),
            hidden_size=8,
            intermediate_size=8,
            num_layers=1,
            num_heads=1,
            num_kv_heads=1,
            head_dim=8,
        ),
        tokens=TokenIds(278, 342, end_of_speech=347, pad=256, speech_pad=64, eos=(256,)),
        prompt=PromptConfig(
            system="Talk.",
            template="<|begin_of_style|>{system}<|end_of_style|>\n"
            "<|begin_of_text|>{text}<|end_of_text|>\n<|begin_of_speech|>",
            speaker_tokens=("<speaker1>", "<speaker2>"),
        ),
        sampling=(ChannelSampling(),) * 3,
        codec=CodecConfig("test", 16000, 24000, 1280, 1920, 3, 64, 375),
        windows=WindowConfig((WindowStep(10, 5, 1),), 0),
        limits=LimitsConfig(max_rows=1000),
    )
