# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters around the model, and the way back to plain weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from torch import nn

from duologue.finetune.errors import TrainingError
from duologue.finetune.model import TrainableLm
from duologue.finetune.settings import LoraSettings
from duologue.runtime.errors import EngineUnavailableError

if TYPE_CHECKING:
    from peft import PeftModel


def add_adapters(model: TrainableLm, settings: LoraSettings) -> PeftModel:
    """Freeze a model and put adapters beside its projections.

    Raises:
        TrainingError: a target module is not there, or is no projection.
        EngineUnavailableError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise EngineUnavailableError("LoRA needs peft: pip install 'duologue[train]'") from error
    modules = model.named_modules()
    present = {name.rpartition(".")[2] for name, part in modules if isinstance(part, nn.Linear)}
    absent = [name for name in settings.target_modules if name not in present]
    if absent:
        raise TrainingError(f"target_modules names {absent}; allowed: {', '.join(sorted(present))}")
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        target_modules=list(settings.target_modules),
        lora_dropout=settings.lora_dropout,
        bias=cast("Literal['none', 'all', 'lora_only']", settings.bias),
        use_rslora=settings.use_rslora,
    )
    return get_peft_model(model, config)


def merge_adapters(adapted: PeftModel) -> TrainableLm:
    """Add the adapters into the weights, which have their own names again."""
    merged = adapted.merge_and_unload()
    assert isinstance(merged, TrainableLm)
    return merged
