"""generation_config.json: how each channel samples, and where the reference stops."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.build_engines.generation_config import max_length, sampling
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError

DEFAULT = ChannelSampling(True, 0.8, 50, 0.95)


def test_sampling_is_read_channel_by_channel() -> None:
    layers = [{"temperature": 1, "top_k": 5}, {"repetition_penalty": 1.1}]
    got = sampling({"do_samples": [True, False], "layers": layers}, 2)
    assert got == (
        ChannelSampling(True, temperature=1.0, top_k=5),
        ChannelSampling(False, repetition_penalty=1.1),
    )


@pytest.mark.parametrize(
    ("generation", "wanted"),
    [
        ({}, (DEFAULT, DEFAULT)),
        ({"do_sample": False, "top_k": 7}, (ChannelSampling(False, 0.8, 7, 0.95),) * 2),
        ({"do_samples": [True, False]}, (DEFAULT, ChannelSampling(False))),
    ],
)
def test_silence_means_the_documented_defaults(
    generation: dict[str, Any], wanted: tuple[ChannelSampling, ...]
) -> None:
    assert sampling(generation, 2) == wanted


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="layers has 1 entries; allowed: 2"):
        sampling({"do_samples": [True, True], "layers": [{}]}, 2)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"do_samples": "yes"}, "do_samples is 'yes'; allowed: a list, each a bool"),
        ({"do_samples": [1, 0]}, "do_samples is"),
        ({"do_samples": [True, True], "layers": 7}, "layers is 7; allowed: a list, each a dict"),
        ({"do_samples": [True, True], "layers": [{}, 3]}, "layers is"),
        ({"do_samples": [True, True], "layers": [{}, {"top_p": "x"}]}, "top_p is 'x'; allowed: a"),
        ({"temperature": "hot"}, "temperature is 'hot'; allowed: a number"),
    ],
)
def test_values_of_another_type_are_refused(generation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampling(generation, 2)


@pytest.mark.parametrize("found", [0, -1, True, "4096", 1.5])
def test_a_length_that_is_none_is_refused(found: object) -> None:
    assert max_length({"max_length": 4096}) == 4096
    assert max_length({}) is None
    with pytest.raises(ConfigError, match="max_length is"):
        max_length({"max_length": found})
