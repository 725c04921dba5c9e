"""The prompt of a voice whose words nobody wrote down."""

from __future__ import annotations

import numpy as np

from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.core import Voice
from duologue.runtime.text.prompt import build_prompt, voice_rows
from duologue.runtime.text.script import parse_script
from duologue.runtime.text.tokenizer import TextTokenizer


def test_the_text_is_the_scripts_alone_and_the_codes_stand_behind_it() -> None:
    """As MOSS-TTSD v0.7 does it where an item has `prompt_audio` and no `prompt_text`."""
    directory = noise_bundle_path()
    bundle = Bundle.load(directory)
    tokenizer = TextTokenizer.from_file(directory / "tokenizer.json")
    script = parse_script("[S1]Hello.[S2]Hi.", max_speakers=2)
    codes = np.random.default_rng(0).integers(0, bundle.codec.codebook_size, (8, 20))

    without = build_prompt(script, {}, bundle, tokenizer)
    prompt = build_prompt(script, {2: Voice(codes)}, bundle, tokenizer)

    assert prompt.num_text_rows == without.num_text_rows
    expected = np.concatenate([without.aligned_ids, voice_rows(codes, bundle.tokens)])
    np.testing.assert_array_equal(prompt.aligned_ids, expected)
