# SPDX-License-Identifier: Apache-2.0
"""What serving uses of Triton's Python backend, as types.

The module `triton_python_backend_utils` exists only inside a model process, so it is handed in
and never imported; tests hand in a fake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from duologue.runtime.errors import ConfigError

PbUtils: TypeAlias = Any
"""The module `triton_python_backend_utils`, or a fake of it."""
Response: TypeAlias = Any
"""A `pb_utils.InferenceResponse`."""


class Tensor(Protocol):
    """A `pb_utils.Tensor`."""

    def name(self) -> str:
        """As in the model's config."""
        ...

    def as_numpy(self) -> npt.NDArray[Any]:
        """The values; BYTES come as an object array of `bytes`."""
        ...


class ResponseSender(Protocol):
    """Where the responses of one request go; may be used from any thread."""

    def send(self, response: Response | None = None, flags: int = 0) -> None:
        """Send a response, flags, or both at once; nothing may follow the final flag."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the caller cancelled or went away; asks the server process each time."""
        ...


class Request(Protocol):
    """A `pb_utils.InferenceRequest` that was received."""

    def inputs(self) -> list[Tensor]:
        """The tensors that came."""
        ...

    def get_response_sender(self) -> ResponseSender:
        """Where the responses go."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The parameters of a model's `config.pbtxt`.

    Attributes:
        bundle: "default" or the folder of a bundle.
        engine: kind of engine, "auto" picks one.
        max_slots: dialogues at the same time; None takes the bundle's number.
        codec_engine: of the codec, "auto" picks one.
        codec_device: where the codec runs: "cuda:N" when the instance group is of KIND_GPU, else
            "auto", "cpu", "cuda" or "cuda:N".
        is_decoupled: the model may send any number of responses per request.
    """

    bundle: str
    engine: str
    max_slots: int | None
    codec_engine: str
    codec_device: str
    is_decoupled: bool

    @staticmethod
    def from_args(args: Mapping[str, str]) -> ModelSettings:
        """Read the arguments that Triton hands to `initialize`.

        Raises:
            ConfigError: `max_slots` is no positive number.
        """
        config = json.loads(args["model_config"])
        parameters = config.get("parameters", {})
        values = {name: entry.get("string_value", "") for name, entry in parameters.items()}
        max_slots = values.get("max_slots", "")
        if max_slots and not (max_slots.isdecimal() and int(max_slots) > 0):
            raise ConfigError(
                f"the model parameter max_slots is {max_slots!r}; allowed: a number from 1 on, "
                "or nothing for the bundle's own"
            )
        on_gpu = args.get("model_instance_kind") == "GPU"
        own_gpu = f"cuda:{args.get('model_instance_device_id')}"
        return ModelSettings(
            bundle=values.get("bundle") or "default",
            engine=values.get("engine") or "auto",
            max_slots=int(max_slots) if max_slots else None,
            codec_engine=values.get("codec_engine") or "auto",
            codec_device=own_gpu if on_gpu else values.get("codec_device") or "auto",
            is_decoupled=bool(config.get("model_transaction_policy", {}).get("decoupled")),
        )


def text_tensor(pb_utils: PbUtils, name: str, value: str) -> Tensor:
    """A BYTES tensor of one string."""
    tensor: Tensor = pb_utils.Tensor(name, np.array([value.encode()], dtype=np.object_))
    return tensor
