"""What holds for every engine of the language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_lms import WEIGHTS, build_random_lm, open_backbone, random_ids, teacher_force

from duologue.runtime.backbone.base import Backbone, ShowsHidden
from duologue.runtime.backbone.layout import head_name
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError, EngineError

ENGINES = ("torch", "onnx")
SLOTS = 6
ROWS = 40


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("random_lm")
    return build_random_lm(directory), directory


@pytest.fixture(scope="module", params=ENGINES)
def shared(request: pytest.FixtureRequest, built: tuple[LmConfig, Path]) -> Iterator[Backbone]:
    # With several threads, how many torch's library takes may differ from call to call on a busy
    # machine, and with it the last bits.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engine = open_backbone(request.param, *built, max_slots=SLOTS, max_rows=ROWS)
    yield engine
    engine.close()
    torch.set_num_threads(num_threads)


@pytest.fixture
def backbone(shared: Backbone) -> Backbone:
    for slot in range(SLOTS):
        shared.release(slot)
    return shared


def test_spec_says_what_the_engine_holds(backbone: Backbone) -> None:
    spec, lm = backbone.spec, backbone.spec.lm
    assert (spec.max_slots, spec.max_rows, spec.dtype) == (SLOTS, ROWS, "float32")
    assert spec.kv_bytes_per_row == 2 * lm.num_layers * lm.num_kv_heads * lm.head_dim * 4


def test_engines_agree(built: tuple[LmConfig, Path]) -> None:
    ids = random_ids(built[0], 30)
    results = [teacher_force(open_backbone(engine, *built), 1, ids, 20, [13]) for engine in ENGINES]
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4)


def test_the_hidden_state_is_what_the_heads_read(
    backbone: Backbone, built: tuple[LmConfig, Path]
) -> None:
    ids = random_ids(backbone.spec.lm, 12)
    logits = backbone.prefill(0, ids)
    assert logits is not None
    assert isinstance(backbone, ShowsHidden)
    backbone.prefill(1, ids[:5], is_last=False)
    hidden = backbone.prefill_hidden(1, ids[5:], start=5)
    table = TensorFile(built[1] / WEIGHTS)[head_name(built[0])].float32()
    np.testing.assert_allclose(table @ hidden, logits.values[0], rtol=0, atol=1e-4)
    assert np.abs(hidden).max() > 0.5


def test_decode_continues_what_prefill_read(backbone: Backbone) -> None:
    ids = random_ids(backbone.spec.lm, 20)
    stepped = teacher_force(backbone, 0, ids, 10)
    for place in range(10):
        whole = teacher_force(backbone, 1, ids[: 10 + place], 10 + place)
        backbone.release(1)
        np.testing.assert_allclose(stepped[place], whole[0], rtol=0, atol=1e-4)


def test_logits_have_a_row_per_slot_and_a_column_per_id(backbone: Backbone) -> None:
    lm = backbone.spec.lm
    for slot in (5, 1):
        backbone.prefill(slot, random_ids(lm, 4, slot))
    logits = backbone.decode([5, 1], random_ids(lm, 2))
    assert logits.values.dtype == np.float32
    assert logits.values.shape == (2, sum(lm.vocab_sizes))
    assert logits.channel(3).shape == (2, lm.vocab_sizes[3])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_sequence_does_not_depend_on_its_neighbours(
    backbone: Backbone, data: st.DataObject
) -> None:
    lm = backbone.spec.lm
    for slot in range(SLOTS):
        backbone.release(slot)
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=SLOTS, max_size=SLOTS))
    ids = [random_ids(lm, length + 8, slot) for slot, length in enumerate(lengths)]
    alone = []
    for slot, length in enumerate(lengths):
        alone.append(teacher_force(backbone, 0, ids[slot], length))
        backbone.release(0)
    seats = data.draw(st.permutations(range(SLOTS)))
    for place, seat in enumerate(seats):
        first = backbone.prefill(seat, ids[place][: lengths[place]])
        assert first is not None
        np.testing.assert_array_equal(first.values[0], alone[place][0])
    taken = [0] * SLOTS
    for _ in range(8):
        running = data.draw(st.lists(st.sampled_from(range(SLOTS)), unique=True, min_size=1))
        running = [place for place in running if taken[place] < 8]
        if not running:
            continue
        rows = np.stack([ids[place][lengths[place] + taken[place]] for place in running])
        logits = backbone.decode([seats[place] for place in running], rows)
        for row, place in enumerate(running):
            taken[place] += 1
            np.testing.assert_array_equal(logits.values[row], alone[place][taken[place]])


def test_a_neighbour_whose_slot_is_full_keeps_its_rows(backbone: Backbone) -> None:
    lm = backbone.spec.lm
    ids = random_ids(lm, ROWS)
    wanted = teacher_force(backbone, 0, ids, 30)
    backbone.prefill(2, ids)
    saved = backbone.save_prefix(2, ROWS - 1)
    for slot in (1, 3):
        backbone.prefill(slot, ids[:30])
    for place in range(30, ROWS):
        logits = backbone.decode([1, 3], np.stack([ids[place]] * 2))
        np.testing.assert_array_equal(logits.values[1], wanted[place - 29])
    backbone.release(2)
    backbone.load_prefix(2, saved)
    last = backbone.decode([2], ids[-1:])
    np.testing.assert_allclose(last.values[0], wanted[-1], rtol=0, atol=1e-4)


def test_a_used_slot_is_as_good_as_new(backbone: Backbone) -> None:
    ids = random_ids(backbone.spec.lm, 25)
    fresh = teacher_force(backbone, 4, ids, 12)
    backbone.release(4)
    teacher_force(backbone, 4, random_ids(backbone.spec.lm, ROWS, 9), 30)
    backbone.release(4)
    np.testing.assert_array_equal(teacher_force(backbone, 4, ids, 12), fresh)


def test_a_loaded_prefix_equals_reading_it(backbone: Backbone) -> None:
    ids = random_ids(backbone.spec.lm, 30)
    wanted = teacher_force(backbone, 0, ids, 20, [12])
    handle = backbone.save_prefix(0, 12)
    assert handle.num_rows == 12
    assert handle.num_bytes == 12 * backbone.spec.kv_bytes_per_row
    backbone.release(0)
    backbone.prefill(0, random_ids(backbone.spec.lm, ROWS, 5))
    backbone.load_prefix(3, handle)
    first = backbone.prefill(3, ids[12:20], 12)
    assert first is not None
    np.testing.assert_array_equal(first.values[0], wanted[0])
    for place in range(20, 30):
        logits = backbone.decode([3], ids[place : place + 1])
        np.testing.assert_array_equal(logits.values[0], wanted[place - 19])


def test_pads_are_added_like_any_other_row(backbone: Backbone) -> None:
    """The embedding is a plain sum: another pad row gives another result."""
    lm = backbone.spec.lm
    ids = random_ids(lm, 3)
    ids[:, 1:] = lm.vocab_sizes[1] - 1
    with_pads = teacher_force(backbone, 0, ids, 3)
    ids[:, 1] = 0
    without = teacher_force(backbone, 1, ids, 3)
    assert np.abs(with_pads - without).max() > 1e-3


@pytest.mark.parametrize(
    ("slots", "num_rows"), [([0, 0], 2), ([9], 1), ([-1], 1), ([1], 1), ([0], 2)]
)
def test_decode_refuses_what_does_not_fit(
    backbone: Backbone, slots: list[int], num_rows: int
) -> None:
    backbone.prefill(0, random_ids(backbone.spec.lm, 3))
    with pytest.raises(EngineError):
        backbone.decode(slots, random_ids(backbone.spec.lm, num_rows))


def test_prefill_refuses_what_does_not_fit(backbone: Backbone) -> None:
    lm = backbone.spec.lm
    with pytest.raises(EngineError, match="holds 0 rows; start is 3"):
        backbone.prefill(0, random_ids(lm, 3), 3)
    with pytest.raises(EngineError, match=f"up to row {ROWS}"):
        backbone.prefill(0, random_ids(lm, ROWS + 1))
    with pytest.raises(EngineError, match="at least one"):
        backbone.prefill(0, random_ids(lm, 0))
    outside = random_ids(lm, 3)
    outside[1, 2] = lm.vocab_sizes[2]
    with pytest.raises(EngineError, match=f"id {lm.vocab_sizes[2]} in channel 2"):
        backbone.prefill(0, outside)
    with pytest.raises(EngineError, match="input_ids is"):
        backbone.prefill(0, outside[:, :2])
    backbone.prefill(0, random_ids(lm, ROWS))
    with pytest.raises(EngineError, match="allowed before a decode step"):
        backbone.decode([0], random_ids(lm, 1))


def test_prefixes_are_refused_where_they_do_not_belong(backbone: Backbone) -> None:
    backbone.prefill(0, random_ids(backbone.spec.lm, 5))
    handle = backbone.save_prefix(0, 5)
    with pytest.raises(EngineError, match="allowed: 1 to 5"):
        backbone.save_prefix(0, 6)
    with pytest.raises(EngineError, match="while it is empty"):
        backbone.load_prefix(0, handle)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"max_slots": 0}, "max_slots is 0"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"max_rows": 513}, "allowed: 1 to lm.max_position_embeddings = 512"),
    ],
)
def test_sizes_out_of_range_are_refused(
    built: tuple[LmConfig, Path], engine: str, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_backbone(engine, *built, **sizes)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cache_beyond_memory_names_the_flag_to_lower(
    built: tuple[LmConfig, Path], engine: str
) -> None:
    with pytest.raises(ConfigError, match="--max-slots"):
        open_backbone(engine, *built, max_slots=10**12)
