"""Building the engine of the body, against the stand-in; and serving what was built."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_lms import build_random_lm, open_backbone
from thread_ranks import ROWS, SLOTS, ThreadRanks, all_logits
from trtllm_standin import build_standin_engine, open_standin_body, standin

from duologue.build_engines import trtllm_engine
from duologue.build_engines.trtllm_engine import EnginePlan, build_engine, require_builder
from duologue.runtime.backbone.ranks import World
from duologue.runtime.backbone.ranks_body import BodyBackbone
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError, EngineUnavailableError

Built = tuple[LmConfig, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    directory = tmp_path_factory.mktemp("engine")
    with standin():
        yield build_random_lm(directory), directory


def record(built: Built, plan: EnginePlan) -> list[dict[str, Any]]:
    import tensorrt_llm

    tensorrt_llm.BUILDS.clear()
    build_standin_engine(*built, plan)
    return list(tensorrt_llm.BUILDS)


def test_the_engine_has_the_tensors_of_the_contract(built: Built) -> None:
    golden = Path(__file__).parents[2] / "golden" / "data" / "tensorrt_llm_inputs.json"
    rules = json.loads(golden.read_text(encoding="utf-8"))["design_A2_inputs"]
    (network,) = record(built, EnginePlan("float32", 3, 64))
    assert set(network["inputs"]) == set(rules)
    assert network["inputs"]["hidden_states_input"] == {"dtype": "float32", "shape": [-1, 48]}
    assert network["inputs"]["position_ids"] == {"dtype": "int32", "shape": [-1]}
    assert network["outputs"] == {"hidden_states_output": "float32"}
    assert network["steps"] == ["layers", "norm", "gather"]


def test_the_limits_are_those_of_the_plan(built: Built) -> None:
    plan = EnginePlan("bfloat16", 3, 64)
    (network,) = record(built, plan)
    limits = {"max_batch_size": 3, "max_input_len": 64, "max_seq_len": 64}
    assert network["limits"] == {**limits, "max_num_tokens": plan.max_num_tokens}
    assert network["tokens_per_block"] == plan.facts()["tokens_per_block"]
    assert network["inputs"]["hidden_states_input"]["dtype"] == "bfloat16"


def test_each_rank_gets_an_engine_with_a_workspace(built: Built) -> None:
    networks = record(built, EnginePlan("float32", 3, 64, tensor_parallel=2))
    assert [network["config"]["rank"] for network in networks] == [0, 1]
    for network in networks:
        assert network["inputs"]["all_reduce_workspace"]["dtype"] == "int64"


def test_two_ranks_of_an_engine_equal_the_torch_engine(built: Built) -> None:
    lm, directory = built
    plan = EnginePlan("float32", SLOTS, ROWS, tensor_parallel=2)
    entry = build_standin_engine(lm, directory, plan)
    barrier, parts = threading.Barrier(2), [None, None]
    results: dict[int, FloatArray] = {}
    engines = []
    for rank in range(2):
        ranks = ThreadRanks(World(rank, 2), barrier, parts)
        body = open_standin_body(lm, directory, entry, max_slots=SLOTS, max_rows=ROWS, ranks=ranks)
        engines.append(BodyBackbone(body))
        body._ends._head = body._ends._embedding

    def speak(rank: int) -> None:
        results[rank] = all_logits(engines[rank], lm)

    other = threading.Thread(target=speak, args=(1,))
    other.start()
    speak(0)
    other.join()
    expected = all_logits(open_backbone("torch", lm, directory), lm)
    for found in results.values():
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_incomplete_checkpoint_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks config\.json"):
        build_engine(tmp_path, tmp_path / "engine", EnginePlan("float32", 1, 64))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"lacks rank0\.safetensors"):
        build_engine(tmp_path, tmp_path / "engine", EnginePlan("float32", 1, 64))


def test_a_build_that_gives_nothing_is_an_error(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_llm

    monkeypatch.setattr(tensorrt_llm, "build", lambda model, config: None)
    with pytest.raises(EngineUnavailableError, match="built no engine"):
        build_standin_engine(*built, EnginePlan("float32", 1, 64))


def test_an_engine_is_built_on_a_gpu_alone(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailableError, match="on the GPU machine"):
        require_builder()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trtllm_engine, "capability", lambda index: "9.0")
    assert require_builder() == ("1.2.1", "9.0")
