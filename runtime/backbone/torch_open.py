# SPDX-License-Identifier: Apache-2.0
"""The torch engine of a bundle: the reference on a CPU, the one that decodes by itself on a GPU.

What the bundle may say of it on a GPU, in `engines.torch`:

| key | value |
|---|---|
| `dtype` | "int8", "fp8": `weights` holds matrices in 8 bits; all else is bfloat16 |
| `deterministic` | true: a sequence's ids do not depend on who shares its steps |
| `channel0_ids` | `[[start, stop], ...]`: ids that channel 0 chooses from, see `torch_columns` |
"""

from __future__ import annotations

import logging
from functools import partial

import torch

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.precision import (
    Precision,
    check_overflow,
    precisions_for,
    settle,
)
from duologue.runtime.backbone.request import EngineRequest
from duologue.runtime.backbone.slots import KV_MEMORY_HINT
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.errors import ConfigError

_log = logging.getLogger(__name__)

QUANTIZATIONS = ("int8", "fp8")
_BESIDE_NARROW = "bfloat16"
"""Precision of activations and of what stays wide beside matrices in 8 bits."""


def open_on_cpu(request: EngineRequest) -> Backbone:
    """Load the reference, in float32; matrices in 8 bits are widened.

    Raises:
        ConfigError: the weights do not fit the model, or memory does not suffice.
    """
    return TorchBackbone(
        request.lm,
        request.path("weights"),
        max_slots=request.max_slots,
        max_rows=request.max_rows,
    )


def open_on_gpu(request: EngineRequest, device: str) -> Backbone:
    """Load the engine that decodes by itself, in the best precision that this GPU can take.

    Raises:
        ConfigError: the weights do not fit the model, or memory does not suffice.
        EngineUnavailableError: the GPU can take none.
    """
    stored = str(request.entry.get("dtype"))
    wanted = _BESIDE_NARROW if stored in QUANTIZATIONS else stored
    if stored in QUANTIZATIONS:
        _log.info("the language model's matrices stay in %s", stored)
    load = partial(
        TorchDeviceBackbone,
        request.lm,
        request.path("weights"),
        max_slots=request.max_slots,
        max_rows=request.max_rows,
        device=device,
        deterministic=request.entry.get("deterministic") is True,
        channel0_ids=request.entry.get("channel0_ids"),
    )

    def attempt(precision: Precision) -> Backbone:
        try:
            backbone = load(dtype=precision.dtype, attention=precision.attention)
            check_overflow(backbone)
            backbone.warm_up()
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the language model does not fit into the GPU's memory in {precision.dtype}: "
                f"{KV_MEMORY_HINT}"
            ) from error
        return backbone

    precisions = precisions_for(
        wanted,
        torch.cuda.get_device_capability(),
        has_flash=torch.backends.cuda.is_flash_attention_available(),
    )
    return settle(wanted, precisions, attempt)
