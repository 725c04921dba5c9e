"""The doctor's look at TensorRT-LLM, against its stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trtllm_standin import MarkingPlacement, standin
from typer.testing import CliRunner

from duologue.build_engines import trtllm_engine
from duologue.cli.doctor_trtllm import check_trtllm
from duologue.cli.main import app
from duologue.runtime.diagnosis.finding import Level
from duologue.runtime.supervisor import mpi_probe
from duologue.runtime.supervisor.mpi_probe import Attempt, ImportProbe, LaunchWay


@pytest.fixture
def placement() -> Iterator[MarkingPlacement]:
    with standin():
        yield MarkingPlacement()


def test_an_engine_that_agrees_with_torch_is_well(
    placement: MarkingPlacement, tmp_path: Path
) -> None:
    record = tmp_path / "tensors.json"
    found = check_trtllm(dtype="float32", placement=placement, record=record)
    assert [each.level for each in found] == [Level.OK] * 6, found
    assert "18 tensors of the contract" in found[1].found
    tensors = json.loads(record.read_text())
    assert tensors["host_request_types"] == {"dtype": "DataType.int32", "shape": [-1]}


def test_a_kernel_that_forgets_earlier_pieces_is_found(
    placement: MarkingPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorrt_llm.runtime import body

    attention = body.PagedBody._attention

    def forget(self: Any, rows: Any, places: Any, *rest: Any) -> np.ndarray:
        if len(rows) > 1:
            places = places - places[0]
        return attention(self, rows, places, *rest)

    monkeypatch.setattr(body.PagedBody, "_attention", forget)
    found = check_trtllm(dtype="float32", placement=placement)
    faults = [each for each in found if each.level is Level.FAULT]
    assert [each.found.partition(":")[0] for each in faults] == [
        "hidden states of a prompt in pieces"
    ]
    assert "looks back at earlier pieces" in faults[0].remedy


def test_other_tensors_are_listed(
    placement: MarkingPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorrt_llm.models.modeling_utils import PretrainedModel

    prepare = PretrainedModel.prepare_attention_inputs

    def declare_more(self: Any, **limits: Any) -> dict[str, Any]:
        from tensorrt_llm.functional import Tensor

        Tensor("something_new", "trt.int32", [1])
        return prepare(self, **limits)

    monkeypatch.setattr(PretrainedModel, "prepare_attention_inputs", declare_more)
    found = check_trtllm(dtype="float32", placement=placement)
    faults = [each.found for each in found if each.level is Level.FAULT]
    assert "missing [], extra ['something_new']" in faults[0]


def test_another_interface_is_a_fault_and_no_crash(
    placement: MarkingPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_llm

    monkeypatch.delattr(tensorrt_llm, "BuildConfig")
    (found,) = check_trtllm(dtype="float32", placement=placement)
    assert found.level is Level.FAULT
    assert "ImportError" in found.found


def test_an_import_that_hangs_names_the_way_to_start(
    placement: MarkingPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    monkeypatch.setattr(trtllm_engine, "require_builder", lambda: ("1.2.1", "9.0"))
    way = LaunchWay("loopback", (), mpi_probe.LOOPBACK)
    attempts = (Attempt(LaunchWay("direct"), "hangs"), Attempt(way, "works"))
    probes = iter([ImportProbe("tensorrt_llm", attempts), ImportProbe("tensorrt_llm", ())])
    monkeypatch.setattr(mpi_probe, "probe_import", lambda module, timeout_s: next(probes))
    first, second = check_trtllm()
    assert first.level is Level.OK
    assert second.level is Level.FAULT
    assert second.remedy == "OMPI_MCA_btl_tcp_if_include=lo duologue doctor --engine trtllm"
    assert "cannot be imported" in check_trtllm()[1].found


def test_without_the_wheel_the_doctor_says_what_to_install() -> None:
    result = CliRunner().invoke(app, ["doctor", "--engine", "trtllm", "--json"])
    assert result.exit_code == int(Level.FAULT)
    (line,) = json.loads(result.stdout)["findings"]
    assert "tensorrt_llm>=1.0,<1.3, which is not installed" in line["found"]
    assert "pip install 'duologue[trtllm]'" in line["remedy"]
