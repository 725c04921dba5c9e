from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from tensorrt_llm.functional import Tensor
from tensorrt_llm.layers import AttentionParams, KeyValueCacheParams
from tensorrt_llm.models import MODEL_MAP
from tensorrt_llm.network import default_net

PAGED = "KVCacheType.PAGED"


def get_kv_cache_type_from_legacy(use_cache: bool, paged_kv_cache: bool) -> str:
    assert use_cache
    assert paged_kv_cache
    return PAGED


class PretrainedConfig:
    def __init__(self, fields: dict[str, Any]) -> None:
        from tensorrt_llm import Mapping

        self.fields = copy.deepcopy(fields)
        self.__dict__.update({**self.fields, "mapping": Mapping(**fields["mapping"])})
        self.kv_dtype = self.dtype

    @staticmethod
    def from_checkpoint(directory: str) -> PretrainedConfig:
        fields = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
        # As the original: the class must be known before its checkpoint is read.
        return MODEL_MAP[fields["architecture"]].config_class(fields)

    def set_rank(self, rank: int) -> None:
        self.mapping.rank = self.mapping.tp_rank = rank


class DecoderLayerList:
    def __init__(self, layer_class: Any, config: PretrainedConfig) -> None:
        self.layers = [layer_class(config, i) for i in range(config.num_hidden_layers)]

    def forward(
        self,
        hidden_states: Tensor,
        use_cache: bool,
        kv_cache_params: KeyValueCacheParams,
        attention_params: AttentionParams,
    ) -> tuple[Tensor, list[Tensor]]:
        assert use_cache
        assert hidden_states.name == "hidden_states_input"
        assert attention_params.has_rotary_tables, "the layers would not know positions"
        default_net().steps.append("layers")
        return Tensor(), [Tensor() for _ in self.layers]


class PretrainedModel:
    config_class: Any = None

    def __init__(self, config: PretrainedConfig) -> None:
        assert isinstance(config, self.config_class)
        self.config = config
        self.weights: dict[str, Any] = {}

    @classmethod
    def from_checkpoint(cls, directory: str, config: PretrainedConfig) -> Any:
        model = cls(config)
        path = Path(directory) / f"rank{config.mapping.rank}.safetensors"
        model.weights = load_file(str(path))
        found = {name: tensor.shape for name, tensor in model.weights.items()}
        assert found == model.parameter_shapes()
        return model

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names by attributes, as the original has them: `layers.0.mlp.fc.weight`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for attribute, module in vars(self).items():
            parts = {"": module} if hasattr(module, "shapes") else {}
            parts.update({f"{i}.": layer for i, layer in enumerate(getattr(module, "layers", []))})
            for prefix, part in parts.items():
                shapes.update({f"{attribute}.{prefix}{k}": v for k, v in part.shapes.items()})
        return shapes

    def get_profiles_ranges(self, **limits: Any) -> tuple[int, dict[str, Any]]:
        assert limits["max_beam_width"] == 1
        assert limits["kv_cache_type"] == PAGED
        rows, batch = limits["max_num_tokens"], limits["max_batch_size"]
        return 1, {
            "num_tokens_range": [[1, batch, rows]],
            "bbd_range": [[1, (batch + 1) // 2, batch]],
        }

    def prepare_attention_inputs(self, **limits: Any) -> dict[str, Tensor | None]:
        """Declares what the golden file says, which is what the original declares."""
        assert limits["use_gpt_attention_plugin"]
        assert limits["remove_input_padding"]
        assert limits["kv_cache_type"] == PAGED
        golden = Path(__file__).parents[4] / "golden" / "data" / "tensorrt_llm_inputs.json"
        inputs = json.loads(golden.read_text(encoding="utf-8"))["design_A2_inputs"]
        own = ("hidden_states_input", "position_ids", "last_token_ids")
        sizes = {"num_layers": limits["num_layers"], "max_seq_len": limits["max_seq_len"]}
        declared: dict[str, Tensor | None] = {"past_key_value": None}
        for name, rule in inputs.items():
            if name not in own:
                shape = [d if isinstance(d, int) else sizes.get(d, -1) for d in rule["shape"]]
                declared[name] = Tensor(name, f"trt.{rule['dtype']}", shape)
        return declared
