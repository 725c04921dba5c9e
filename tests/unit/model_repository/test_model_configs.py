from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.model_repository import repository_path
from duologue.runtime.supervisor.layout import read_config

REQUIRED_SCRIPT = TensorSpec("SCRIPT", "BYTES", (1,))
WHOLE_INPUTS = (REQUIRED_SCRIPT, *contract.WHOLE_REQUEST_TENSORS[1:])
# model -> inputs, outputs, what max_batch_size must be
MODELS: dict[str, tuple[Sequence[TensorSpec], Sequence[TensorSpec], int]] = {
    contract.STREAMING_MODEL: (contract.REQUEST_TENSORS, contract.RESPONSE_TENSORS, 0),
    contract.ENSEMBLE_MODEL: (WHOLE_INPUTS, contract.WHOLE_RESPONSE_TENSORS, 0),
    contract.WHOLE_MODEL: (WHOLE_INPUTS, contract.WHOLE_RESPONSE_TENSORS, 0),
    contract.FRONTEND_MODEL: ((REQUIRED_SCRIPT,), (REQUIRED_SCRIPT,), 0),
    contract.ENCODER_MODEL: ((contract.CODEC_SAMPLES,), (contract.CODEC_CODES,), 1),
    contract.DECODER_MODEL: (
        (contract.CODEC_CODES,),
        (contract.CODEC_SAMPLES,),
        contract.MAX_DECODER_BATCH,
    ),
}


def config(model: str) -> ModelConfig:
    return read_config(repository_path() / model / "config.pbtxt")


def as_spec(tensor: object) -> TensorSpec:
    dtype = DataType.Name(tensor.data_type).removeprefix("TYPE_")  # type: ignore[attr-defined]
    return TensorSpec(
        name=tensor.name,  # type: ignore[attr-defined]
        dtype="BYTES" if dtype == "STRING" else dtype,
        shape=tuple(tensor.dims),  # type: ignore[attr-defined]
        optional=getattr(tensor, "optional", False),
    )


def test_the_repository_holds_the_models_of_the_contract_and_no_others() -> None:
    assert {path.parent.name for path in repository_path().glob("*/config.pbtxt")} == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_a_config_says_what_the_contract_says(model: str) -> None:
    inputs, outputs, max_batch_size = MODELS[model]
    parsed = config(model)

    assert parsed.name == model
    assert [as_spec(tensor) for tensor in parsed.input] == list(inputs)
    assert [as_spec(tensor) for tensor in parsed.output] == list(outputs)
    assert parsed.max_batch_size == max_batch_size


@pytest.mark.parametrize("model", MODELS)
def test_only_the_streaming_model_is_decoupled(model: str) -> None:
    policy = config(model).model_transaction_policy

    assert policy.decoupled == (model == contract.STREAMING_MODEL)


@pytest.mark.parametrize("model", sorted(set(MODELS) - {contract.ENSEMBLE_MODEL}))
def test_a_python_model_has_one_instance_and_a_mailbox(model: str) -> None:
    parsed = config(model)

    assert parsed.backend == "python"
    assert [group.count for group in parsed.instance_group] == [1]
    source = (repository_path() / model / "1" / "model.py").read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["TritonPythonModel"]


def test_the_ensemble_passes_every_tensor_on() -> None:
    front, whole = config(contract.ENSEMBLE_MODEL).ensemble_scheduling.step

    assert (front.model_name, whole.model_name) == (contract.FRONTEND_MODEL, contract.WHOLE_MODEL)
    canonical = front.output_map["SCRIPT"]
    assert dict(whole.input_map) == {
        spec.name: canonical if spec.name == "SCRIPT" else spec.name for spec in WHOLE_INPUTS
    }
    assert dict(whole.output_map) == {s.name: s.name for s in contract.WHOLE_RESPONSE_TENSORS}


@pytest.mark.parametrize(
    "model", sorted(set(MODELS) - {contract.ENSEMBLE_MODEL, contract.WHOLE_MODEL})
)
def test_the_committed_configs_serve_the_default_bundle(model: str) -> None:
    assert config(model).parameters["bundle"].string_value == "default"


def test_every_tensor_is_described_in_the_readme() -> None:
    readme = Path(repository_path() / "README.md").read_text()

    specs = (*contract.REQUEST_TENSORS, *contract.RESPONSE_TENSORS)
    missing = [spec.name for spec in specs if f"| `{spec.name}` | {spec.dtype} |" not in readme]
    assert missing == []
