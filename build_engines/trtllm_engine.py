# SPDX-License-Identifier: Apache-2.0
"""Builds the TensorRT-LLM engine of the body, on the kind of GPU that it will run on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.build_engines.trtllm_checkpoint import rank_file
from duologue.runtime.backbone.trtllm_backbone import capability, engine_file
from duologue.runtime.backbone.trtllm_require import require_tensorrt_llm
from duologue.runtime.errors import ConfigError, EngineUnavailableError

ENGINE_DIR = "engine"
CONFIG_FILE = "config.json"
TOKENS_PER_BLOCK = 32
PREFILL_ROWS = 1024
"""Rows of prompts in one step, beside one row of each other sequence."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What an engine is built for.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        max_slots: sequences in one step.
        max_rows: rows of one sequence.
        tensor_parallel: ranks over which it is split.
    """

    dtype: str
    max_slots: int
    max_rows: int
    tensor_parallel: int = 1

    @property
    def max_num_tokens(self) -> int:
        """Rows in one step."""
        return PREFILL_ROWS + self.max_slots

    def facts(self) -> dict[str, Any]:
        """The sizes as `bundle.json` names them."""
        return {
            "max_batch_size": self.max_slots,
            "max_num_tokens": self.max_num_tokens,
            "max_seq_len": self.max_rows,
            "tokens_per_block": TOKENS_PER_BLOCK,
            "tensor_parallel": self.tensor_parallel,
        }


def require_builder() -> tuple[str, str]:
    """What an engine would be built with here.

    Returns:
        Version of TensorRT-LLM, and compute capability of the GPU.

    Raises:
        EngineUnavailableError: the wheel is missing or of another version, or there is no GPU.
    """
    version = require_tensorrt_llm()
    import torch

    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            "a TensorRT-LLM engine is built on the kind of GPU that it runs on, and torch sees no "
            "GPU here: run duologue build --engines trtllm on the GPU machine"
        )
    return version, capability(0)


def build_engine(checkpoint_dir: Path, out_dir: Path, plan: EnginePlan) -> list[Path]:
    """Build the engines of all ranks, one after the other.

    Args:
        checkpoint_dir: what `write_trtllm_checkpoint` wrote.
        out_dir: is made anew.
        plan: sizes.

    Returns:
        The files written.

    Raises:
        ConfigError: the checkpoint is incomplete.
        EngineUnavailableError: TensorRT-LLM built nothing; its own log says why.
    """
    for name in (CONFIG_FILE, *(rank_file(rank) for rank in range(plan.tensor_parallel))):
        if not (checkpoint_dir / name).is_file():
            raise ConfigError(f"{checkpoint_dir} lacks {name}; allowed: a whole checkpoint")
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    for rank in range(plan.tensor_parallel):
        _build_rank(checkpoint_dir, out_dir, plan, rank)
    written = [out_dir / engine_file(rank) for rank in range(plan.tensor_parallel)]
    missing = [path.name for path in written if not path.is_file()]
    if missing:
        raise EngineUnavailableError(
            f"TensorRT-LLM wrote no {', '.join(missing)}; its log says why"
        )
    return [*written, out_dir / CONFIG_FILE]


def _build_rank(checkpoint_dir: Path, out_dir: Path, plan: EnginePlan, rank: int) -> None:
    from tensorrt_llm import build
    from tensorrt_llm.models.modeling_utils import PretrainedConfig

    from duologue.build_engines.trtllm_model import DuologueQwen3Body, register

    register()
    config = PretrainedConfig.from_checkpoint(str(checkpoint_dir))
    config.set_rank(rank)
    model = DuologueQwen3Body.from_checkpoint(str(checkpoint_dir), config=config)
    engine = build(model, _build_config(plan))
    if engine is None:
        raise EngineUnavailableError("TensorRT-LLM built no engine; its log says why")
    engine.save(str(out_dir))


def _build_config(plan: EnginePlan) -> Any:
    from tensorrt_llm import BuildConfig
    from tensorrt_llm.models.modeling_utils import get_kv_cache_type_from_legacy
    from tensorrt_llm.plugin.plugin import PluginConfig

    plugins = PluginConfig()
    plugins.gpt_attention_plugin = plan.dtype
    plugins.gemm_plugin = plan.dtype
    plugins.remove_input_padding = True
    plugins.paged_kv_cache = True
    plugins.tokens_per_block = TOKENS_PER_BLOCK
    plugins.context_fmha = True
    # Without it a prompt that is read in pieces would forget the pieces before.
    plugins.use_paged_context_fmha = True
    return BuildConfig(
        max_batch_size=plan.max_slots,
        max_input_len=plan.max_rows,
        max_seq_len=plan.max_rows,
        max_num_tokens=plan.max_num_tokens,
        max_beam_width=1,
        kv_cache_type=get_kv_cache_type_from_legacy(True, True),
        plugin_config=plugins,
    )
