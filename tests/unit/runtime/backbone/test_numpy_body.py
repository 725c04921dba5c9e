"""The reference body in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_lms import build_random_lm, open_backbone, random_ids, teacher_force
from thread_ranks import ROWS, SLOTS, all_logits, alone

from duologue.runtime.backbone.base import ShowsHidden
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import EngineError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("split_lm")
    return build_random_lm(directory, num_heads=8, num_kv_heads=2), directory


def test_the_numpy_body_equals_the_torch_engine(built: tuple[LmConfig, Path]) -> None:
    reference = open_backbone("torch", *built, max_slots=SLOTS, max_rows=ROWS)
    np.testing.assert_allclose(
        all_logits(alone(built), built[0]), all_logits(reference, built[0]), rtol=0, atol=1e-5
    )


def test_the_numpy_body_shows_its_hidden_states(built: tuple[LmConfig, Path]) -> None:
    engine, reference = alone(built), open_backbone("torch", *built)
    assert isinstance(engine, ShowsHidden)
    assert isinstance(reference, ShowsHidden)
    ids = random_ids(built[0], 9)
    expected = reference.prefill_hidden(0, ids)
    np.testing.assert_allclose(engine.prefill_hidden(0, ids), expected, rtol=0, atol=1e-5)


def test_a_sequence_does_not_depend_on_its_neighbours(built: tuple[LmConfig, Path]) -> None:
    ids = random_ids(built[0], 24)
    engine = alone(built)
    lonely = teacher_force(engine, 0, ids[:12], 10)
    for slot in (1, 2, 3):
        engine.prefill(slot, ids[slot : slot + 9])
    engine.release(0)
    engine.prefill(0, ids[:10], is_last=False)
    rows = np.stack([ids[20], ids[10], ids[21], ids[22]])
    together = engine.decode([3, 0, 2, 1], rows).values[1]
    assert (together == lonely[1]).all()


def test_prompts_and_rows_can_share_a_step(built: tuple[LmConfig, Path]) -> None:
    ids = random_ids(built[0], 24)
    apart, mixed = alone(built), alone(built)
    for engine in (apart, mixed):
        engine.prefill(2, ids[:8])
        engine.prefill(0, ids[:5], is_last=False)
    piece, row = apart.prefill(0, ids[5:9], 5), apart.decode([2], ids[8:9])
    assert piece is not None
    found = mixed.mixed([(0, ids[5:9], 5)], [2], ids[8:9])
    assert (found.values == np.concatenate([piece.values, row.values])).all()
    with pytest.raises(EngineError, match="comes twice"):
        mixed.mixed([(2, ids[9:10], 9)], [2], ids[8:9])
