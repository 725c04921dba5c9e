# SPDX-License-Identifier: Apache-2.0
"""What all models of the MOSS-TTSD v0.5 / v0.7 family share, and no checkpoint file says.

(OpenMOSS/MOSS-TTSD v0.7, legacy/v0.7/generation_utils.py)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from duologue.runtime.config import LimitsConfig, LmConfig, PromptConfig
from duologue.runtime.errors import ConfigError

PROMPT = PromptConfig(
    system=(
        "You are a speech synthesizer that generates natural, realistic, and human-like "
        "conversational audio from dialogue text."
    ),
    template=(
        "<|begin_of_style|>{system}<|end_of_style|>\n"
        "<|begin_of_text|>{text}<|end_of_text|>\n<|begin_of_speech|>"
    ),
    speaker_tokens=("<speaker1>", "<speaker2>"),
)

_TEMPLATE_TOKENS = (
    "<|begin_of_style|>",
    "<|end_of_style|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|begin_of_speech|>",
)
# About eleven minutes of speech; a longer slot is asked for by name, for it costs memory.
_MAX_ROWS = 8192


def check_tokens(known: Collection[str]) -> None:
    """See to it that a tokenizer knows every token of the prompt.

    Args:
        known: the tokens that have an id of their own.

    Raises:
        ConfigError: one is missing, so the script would be read as something else.
    """
    missing = [token for token in (*_TEMPLATE_TOKENS, *PROMPT.speaker_tokens) if token not in known]
    if missing:
        raise ConfigError(f"the tokenizer lacks {missing}; allowed: a tokenizer of MOSS-TTSD")


def limits_for(
    lm: LmConfig, max_rows: int | None, max_slots: int | None, max_length: int | None
) -> LimitsConfig:
    """Limits of a model.

    Args:
        lm: shape of the model.
        max_rows: rows of one request; None takes about eleven minutes.
        max_slots: requests at the same time; None takes the usual number.
        max_length: rows at which the reference stops, if the checkpoint says so.

    Raises:
        ConfigError: the model has not so many positions.
    """
    longest = lm.max_position_embeddings
    if max_rows is not None and max_rows > longest:
        raise ConfigError(f"max_rows is {max_rows}; allowed: up to {longest} by this model")
    limits = LimitsConfig(max_rows=max_rows or min(longest, _MAX_ROWS), max_length=max_length)
    return limits if max_slots is None else dataclasses.replace(limits, max_slots=max_slots)
