# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint samples and where it stops, from `generation_config.json`.

Source: OpenMOSS/MOSS-TTSD v0.7, `modeling_asteroid.py`, for `do_samples` and `layers`.
"""

from __future__ import annotations

from duologue.build_engines.checkpoint_config import Json, number
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError

DEFAULT_SAMPLING = ChannelSampling(do_sample=True, temperature=0.8, top_k=50, top_p=0.95)
"""Where the generation config is silent about how to sample."""


def max_length(generation: Json) -> int | None:
    """Rows at which the reference stops, the delayed prompt counted; None where it is silent.

    Raises:
        ConfigError: no positive number.
    """
    found = generation.get("max_length")
    if found is None:
        return None
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(f"max_length is {found!r}; allowed: a positive whole number")
    return found


def sampling(generation: Json, num_channels: int) -> tuple[ChannelSampling, ...]:
    """How each channel samples.

    `do_samples` and `layers` say it per channel, and a processor that `layers` leaves out is
    left out. Without them, the usual keys hold for all channels, and a temperature of 0.8, top-p
    of 0.95 and top-k of 50 where these are silent as well.

    Raises:
        ConfigError: the lists have not one entry per channel, or a value has the wrong type.
    """
    do_samples, layers = generation.get("do_samples"), generation.get("layers")
    shared = _channel_sampling(
        bool(generation.get("do_sample", True)),
        {
            "temperature": generation.get("temperature", DEFAULT_SAMPLING.temperature),
            "top_k": generation.get("top_k", DEFAULT_SAMPLING.top_k),
            "top_p": generation.get("top_p", DEFAULT_SAMPLING.top_p),
            "repetition_penalty": generation.get("repetition_penalty"),
        },
    )
    if do_samples is None:
        return (shared,) * num_channels
    for name, values, kind in (("do_samples", do_samples, bool), ("layers", layers, dict)):
        if values is not None:
            _check_list(name, values, kind, num_channels)
    if layers is None:
        return tuple(
            shared if do_sample else ChannelSampling(do_sample=False) for do_sample in do_samples
        )
    return tuple(
        _channel_sampling(bool(do_sample), layer)
        for do_sample, layer in zip(do_samples, layers, strict=True)
    )


def _channel_sampling(do_sample: bool, layer: Json) -> ChannelSampling:
    def number_or_none(name: str) -> float | None:
        return None if layer.get(name) is None else number(layer, name)

    top_k = number_or_none("top_k")
    return ChannelSampling(
        do_sample=do_sample,
        temperature=number_or_none("temperature"),
        top_k=None if top_k is None else int(top_k),
        top_p=number_or_none("top_p"),
        repetition_penalty=number_or_none("repetition_penalty"),
    )


def _check_list(name: str, values: object, kind: type, num_entries: int) -> None:
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ConfigError(f"{name} is {values!r:.60}; allowed: a list, each a {kind.__name__}")
    if len(values) != num_entries:
        raise ConfigError(f"{name} has {len(values)} entries; allowed: {num_entries}")
