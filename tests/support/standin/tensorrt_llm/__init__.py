"""A stand-in for TensorRT-LLM's Python API: it records a build and runs its engine in numpy.

It knows what duologue uses of it and nothing else, so that a call of anything else fails. An
"engine" is a recorded network with the weights of one rank.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tensorrt_llm import network
from tensorrt_llm.plugin.plugin import PluginConfig

BUILDS: list[dict[str, Any]] = []
"""What `build` was asked for, for tests to look at."""
FIELDS = {
    "max_batch_size",
    "max_input_len",
    "max_seq_len",
    "max_num_tokens",
    "max_beam_width",
    "kv_cache_type",
    "plugin_config",
}


class Mapping:
    def __init__(self, world_size: int = 1, rank: int = 0, tp_size: int = 1, **_: Any) -> None:
        assert world_size == tp_size
        self.world_size, self.rank, self.tp_size, self.tp_rank = world_size, rank, tp_size, rank


class BuildConfig:
    def __init__(self, **fields: Any) -> None:
        assert set(fields) == FIELDS, set(fields) ^ FIELDS
        self.__dict__.update(fields)
        plugins = self.plugin_config
        assert isinstance(plugins, PluginConfig)
        assert plugins.remove_input_padding
        assert plugins.paged_kv_cache
        assert plugins.use_paged_context_fmha


class Engine:
    def __init__(self, config: dict[str, Any], rank: int, data: bytes) -> None:
        self.config, self.rank, self.data = config, rank, data

    def save(self, directory: str) -> None:
        text = json.dumps(self.config)
        (Path(directory) / "config.json").write_text(text, encoding="utf-8")
        (Path(directory) / f"rank{self.rank}.engine").write_bytes(self.data)


def build(model: Any, build_config: BuildConfig) -> Engine:
    limits = {
        name: getattr(build_config, name)
        for name in ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
    }
    net = network.start(build_config.plugin_config)
    arguments = model.prepare_inputs(
        **limits, max_beam_width=1, opt_batch_size=None, opt_num_tokens=None, use_cache=True
    )
    model.forward(**arguments)
    facts = {
        "config": {**model.config.fields, "rank": model.config.mapping.rank},
        "limits": limits,
        "tokens_per_block": build_config.plugin_config.tokens_per_block,
        "inputs": net.inputs,
        "outputs": net.outputs,
        "steps": net.steps,
    }
    BUILDS.append(facts)
    data = io.BytesIO()
    header = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(data, header=header, **model.weights)
    config = {"version": "1.2.1", "pretrained_config": model.config.fields, "build_config": limits}
    return Engine(config, model.config.mapping.rank, data.getvalue())
