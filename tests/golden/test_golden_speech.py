"""The trained bundle says its words: held against recorded log-mels of espeak-ng's renderings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.finetune.evaluate.spectrum import log_mel
from duologue.finetune.evaluate.words import identify
from duologue.models import default_bundle_path
from duologue.runtime.core import FinishReason, SamplingOverrides
from duologue.runtime.synthesizer import Synthesizer

DATA = Path(__file__).parent / "data"
NUM_SPOKEN = 5


@pytest.mark.parametrize("language", ["english", "mandarin"])
def test_five_dialogues_are_nearest_to_themselves_and_as_long_as_they_should_be(
    language: str,
) -> None:
    golden = np.load(DATA / f"{language}_speech.npz")
    texts = [str(text) for text in golden["texts"]]
    references = [golden[f"mel_{index}"].astype(np.float32) for index in range(len(texts))]
    assert len(references) >= 2 * NUM_SPOKEN
    spoken = []
    with Synthesizer.load(default_bundle_path(), engine="onnx") as synthesizer:
        for text in texts[:NUM_SPOKEN]:
            speech = synthesizer.synthesize(text, sampling=SamplingOverrides(greedy=True))
            assert speech.finish_reason is FinishReason.STOP
            spoken.append(log_mel(speech.samples, speech.sample_rate_hz))
    found = identify(spoken, references)
    assert found.nearest.tolist() == list(range(NUM_SPOKEN)), found.distances
    for mel, reference in zip(spoken, references, strict=False):
        assert 0.6 < len(mel) / len(reference) < 1.5
