"""TensorRT-LLM's engine, through a stand-in that checks each tensor and computes the body."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_lms import build_random_lm, open_backbone, random_ids, teacher_force
from thread_ranks import all_logits
from trtllm_standin import build_standin_engine, open_standin_body, standin

from duologue.build_engines.trtllm_engine import EnginePlan
from duologue.runtime.backbone.ranks_body import BodyBackbone
from duologue.runtime.backbone.trtllm_body import TrtllmBody
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError, EngineError, EngineUnavailableError

SLOTS, ROWS = 4, 100
Built = tuple[LmConfig, Path, dict[str, Any]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    directory = tmp_path_factory.mktemp("trtllm")
    lm = build_random_lm(directory)
    with standin():
        yield lm, directory, build_standin_engine(lm, directory, EnginePlan("float32", SLOTS, ROWS))


def open_body(built: Built, **changes: Any) -> TrtllmBody:
    lm, directory, entry = built
    return open_standin_body(lm, directory, {**entry, **changes}, max_slots=SLOTS, max_rows=ROWS)


@pytest.fixture
def body(built: Built) -> TrtllmBody:
    return open_body(built)


@pytest.fixture
def reference(built: Built) -> Any:
    return open_backbone("torch", *built[:2], max_slots=SLOTS, max_rows=ROWS)


def test_it_equals_the_torch_engine(body: TrtllmBody, reference: Any, built: Built) -> None:
    """A prompt in pieces, decode steps, a prefix, a batch of two, a slot that is used again."""
    found, expected = all_logits(BodyBackbone(body), built[0]), all_logits(reference, built[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_sequences_longer_than_a_block_equal_the_torch_engine(
    body: TrtllmBody, reference: Any, built: Built
) -> None:
    ids = random_ids(built[0], 100)
    engine = BodyBackbone(body)
    engine.prefill(0, ids[50:90])
    found = teacher_force(engine, 2, ids, 62, [3, 31, 32])
    np.testing.assert_allclose(found, teacher_force(reference, 2, ids, 62), rtol=0, atol=1e-4)


def test_a_mixed_step_packs_prompts_first_and_answers_in_the_asked_order(
    body: TrtllmBody, reference: Any, built: Built
) -> None:
    ids, engine = random_ids(built[0], 60), BodyBackbone(body)
    for backbone in (engine, reference):
        backbone.prefill(1, ids[:40])
        backbone.prefill(3, ids[:5], is_last=False)
    found = engine.mixed([(3, ids[5:9], 5), (0, ids[20:27], 0)], [1], ids[40:41])
    expected = [
        reference.prefill(3, ids[5:9], 5).values,
        reference.prefill(0, ids[20:27]).values,
        reference.decode([1], ids[40:41]).values,
    ]
    np.testing.assert_allclose(found.values, np.concatenate(expected), rtol=0, atol=1e-4)
    step = body._session.steps[-1]  # type: ignore[attr-defined]
    assert step["host_request_types"].tolist() == [0, 0, 1]
    assert step["host_context_lengths"].tolist() == [4, 7, 40]
    assert step["host_past_key_value_lengths"].tolist() == [9, 7, 40]
    assert step["sequence_length"].tolist() == [9, 7, 41]
    assert step["last_token_ids"].tolist() == [4, 11, 12]
    assert step["position_ids"].tolist() == [5, 6, 7, 8, *range(7), 40]


def test_released_blocks_are_used_again_and_none_is_lost(body: TrtllmBody, built: Built) -> None:
    ids, engine = random_ids(built[0], 100), BodyBackbone(body)
    num_free = body._table.num_free
    for _ in range(3):
        for slot in range(SLOTS):
            engine.prefill(slot, ids)
        assert body._table.num_free == 0
        for slot in range(SLOTS):
            engine.release(slot)
        assert body._table.num_free == num_free


def test_hidden_states_equal_the_torch_engine(
    body: TrtllmBody, reference: Any, built: Built
) -> None:
    ids = random_ids(built[0], 50)
    found = BodyBackbone(body).prefill_hidden(0, ids)
    np.testing.assert_allclose(found, reference.prefill_hidden(0, ids), rtol=0, atol=1e-4)


def test_an_engine_that_fails_is_an_engine_error(body: TrtllmBody, built: Built) -> None:
    body._session.succeeds = False  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="could not run a step"):
        BodyBackbone(body).prefill(0, random_ids(built[0], 5))


def test_a_step_beyond_the_build_is_refused(built: Built) -> None:
    body = open_body(built, max_num_tokens=8)
    with pytest.raises(EngineError, match=r"1 sequences and 9 rows.*4 and 8"):
        BodyBackbone(body).prefill(0, random_ids(built[0], 9))


def test_a_prefix_of_another_engine_is_refused(
    body: TrtllmBody, reference: Any, built: Built
) -> None:
    reference.prefill(0, random_ids(built[0], 5))
    with pytest.raises(EngineError, match="takes a TrtllmPrefix"):
        BodyBackbone(body).load_prefix(0, reference.save_prefix(0, 4))


def test_closing_gives_the_pool_back(body: TrtllmBody) -> None:
    body.close()
    assert body._pool.numel() == 0


@pytest.mark.parametrize("field", ["max_batch_size", "tokens_per_block", "tensor_parallel"])
def test_an_entry_without_its_sizes_is_refused(built: Built, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"engines\.trtllm\.{field} is None"):
        open_body(built, **{field: None})


def test_an_engine_of_other_ranks_is_refused(built: Built) -> None:
    with pytest.raises(ConfigError, match=r"built for 2 ranks, 1 run.*--tensor-parallel 2"):
        open_body(built, tensor_parallel=2)


def test_more_slots_or_rows_than_built_are_refused(built: Built) -> None:
    with pytest.raises(ConfigError, match=r"max_slots is 4; .* built for up to 3"):
        open_body(built, max_batch_size=3)
    with pytest.raises(ConfigError, match=r"max_rows is 100; .* built for up to 64"):
        open_body(built, max_seq_len=64)


def test_a_missing_engine_file_is_named(built: Built) -> None:
    with pytest.raises(ConfigError, match=r"rank0\.engine cannot be read"):
        open_body(built, engine="nowhere")


def test_without_a_gpu_the_engine_is_unavailable(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    from duologue.runtime.backbone import trtllm_backbone
    from duologue.runtime.backbone.ranks import Alone
    from duologue.runtime.backbone.registry import EngineRequest

    lm, directory, entry = built
    request = EngineRequest(lm, entry, directory, SLOTS, ROWS)
    monkeypatch.setattr(trtllm_backbone.torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailableError, match="torch sees none"):
        trtllm_backbone.open_body(request, Alone())
    monkeypatch.setattr(trtllm_backbone.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trtllm_backbone.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(trtllm_backbone, "capability", lambda index: "8.9")
    with pytest.raises(EngineUnavailableError, match=r"built for compute capability None.*8\.9"):
        trtllm_backbone.open_body(request, Alone())


def test_an_engine_with_other_tensors_is_refused_with_both_lists(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    from duologue.runtime.backbone import trtllm_backbone

    names = trtllm_backbone.tensor_names
    monkeypatch.setattr(
        trtllm_backbone,
        "tensor_names",
        lambda session: (names(session) - {"host_sink_token_length"}) | {"logits"},
    )
    with pytest.raises(
        EngineUnavailableError, match=r"missing \['host_sink_token_length'\], extra \['logits'\]"
    ):
        open_body(built)
