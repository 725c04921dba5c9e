"""The engine that decodes on its device: seats, blocks, recordings, scores that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_lms import WEIGHTS, build_random_lm, open_backbone, random_ids, teacher_force

from duologue.runtime.backbone.device import DecodesOnDevice, DeviceSequence
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.backbone.torch_ends import StepBuffers, make_buffers
from duologue.runtime.backbone.torch_graphs import StepGraphs, batch_heights
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import EngineError

NEUTRAL = np.array([1.0, 1.0, 1.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def lm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("lm")


@pytest.fixture(scope="module")
def lm(lm_dir: Path) -> LmConfig:
    return build_random_lm(lm_dir)


def _sequence(lm: LmConfig, max_steps: int = 20, **changes: Any) -> DeviceSequence:
    settings: dict[str, Any] = {
        "last_row": random_ids(lm, 1, seed=3)[0],
        "num_steps": 1,
        "max_steps": max_steps,
        "rows_to_drain": None,
        "forced": np.zeros((lm.max_delay, lm.num_channels), dtype=np.int64),
        "fills": np.zeros(lm.num_channels, dtype=np.int64),
        "speech_start": 0,
        # Nothing ends the speech.
        "speech_stop": lm.vocab_sizes[0],
        "end_of_speech": 0,
        "sampling": np.tile(NEUTRAL, (lm.num_channels, 1)),
    }
    return DeviceSequence(**{**settings, **changes})


def _uniforms(num_steps: int, batch: int, lm: LmConfig) -> np.ndarray:
    return np.full((num_steps, batch, lm.num_channels), 0.5)


def _open(lm: LmConfig, directory: Path, **changes: Any) -> TorchDeviceBackbone:
    sizes = {"max_slots": 5, "max_rows": 60, **changes}
    return TorchDeviceBackbone(lm, directory / WEIGHTS, **sizes)


def _greedy(backbone: TorchDeviceBackbone, slots: list[int], num_steps: int) -> np.ndarray:
    lm = backbone.spec.lm
    for slot in slots:
        backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
        backbone.seat(slot, _sequence(lm, max_steps=num_steps + 1))
    blocks = []
    while num_steps > 0:
        size = min(num_steps, backbone.max_block_steps)
        blocks.append(backbone.launch(slots, _uniforms(size, len(slots), lm)).wait().chosen)
        num_steps -= size
    for slot in slots:
        backbone.release(slot)
    return np.concatenate(blocks)


def test_scores_on_the_device_are_those_of_decode(lm: LmConfig, lm_dir: Path) -> None:
    """Greedy ids of a block, and the same rows read one by one by the host's path."""
    backbone = _open(lm, lm_dir)
    chosen = _greedy(backbone, [2], 4)[:, 0]
    ids = random_ids(lm, 11, seed=2)
    rows = [_sequence(lm).last_row]
    for step, row in enumerate(chosen[:-1], 1):
        forced = np.array([delay > step for delay in lm.delays])
        rows.append(np.where(forced, 0, row))
    logits = teacher_force(
        open_backbone("torch", lm, lm_dir), 0, np.concatenate([ids, rows]), len(ids)
    )[1:]
    for step, values in enumerate(logits, 1):
        for channel in range(lm.num_channels):
            scores = values[lm.logit_offsets[channel] : lm.logit_offsets[channel + 1]].copy()
            if step < lm.max_delay if channel == 0 else step >= lm.delays[channel]:
                scores[0] = -np.inf
            assert chosen[step - 1, channel] == scores.argmax()


def test_seats_and_batches_change_no_id(lm: LmConfig, lm_dir: Path) -> None:
    together = _greedy(_open(lm, lm_dir), [4, 0, 3], 9)
    same_height = _greedy(_open(lm, lm_dir, deterministic=True), [4, 0, 3], 9)
    np.testing.assert_array_equal(same_height, together)
    for place, slot in enumerate([4, 0, 3]):
        alone = _greedy(_open(lm, lm_dir), [slot], 9)
        np.testing.assert_array_equal(alone[:, 0], together[:, place])


def test_the_same_draws_give_the_same_ids_alone_and_among_63(lm: LmConfig, lm_dir: Path) -> None:
    rng = np.random.default_rng(6)
    backbone = _open(lm, lm_dir, max_slots=64)
    sampling = np.tile([1.2, 0.9, 40.0, 0.9, 1.0], (lm.num_channels, 1))
    seen = rng.random(lm.logit_offsets[-1]) < 0.2
    draws = rng.random((4, 64, lm.num_channels))

    def run(slots: list[int]) -> np.ndarray:
        for slot in slots:
            backbone.prefill(slot, random_ids(lm, 9, seed=slot))
            backbone.seat(slot, _sequence(lm, sampling=sampling, seen=seen))
        chosen = backbone.launch(slots, draws[:, slots]).wait().chosen
        for slot in slots:
            backbone.release(slot)
        return chosen

    together = run(list(range(64)))
    for slot in (0, 17, 63):
        np.testing.assert_array_equal(run([slot])[:, 0], together[:, slot])


def test_who_has_ended_rests_and_harms_nobody(lm: LmConfig, lm_dir: Path) -> None:
    backbone = _open(lm, lm_dir)
    wanted = _greedy(backbone, [1], 8)
    for slot, max_steps in ((0, 3), (1, 30)):
        backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
        backbone.seat(slot, _sequence(lm, max_steps=max_steps))
    before = [table[0].clone() for table in backbone._cache.keys]
    found = [backbone.launch([0, 1], _uniforms(4, 2, lm)).wait().chosen for _ in range(2)]
    np.testing.assert_array_equal(np.concatenate(found)[:, 1], wanted[:, 0])
    for old, table in zip(before, backbone._cache.keys, strict=True):
        # Two rows were fed; the last row of the cache belongs to those who rest.
        changed = (old != table[0]).any(dim=(0, 2)).nonzero()[:, 0].tolist()
        assert changed == [9, 10, 60]


def test_a_slot_is_filled_anew_while_its_block_is_out(lm: LmConfig, lm_dir: Path) -> None:
    backbone = _open(lm, lm_dir)
    wanted = _greedy(backbone, [1], 4)
    backbone.prefill(1, random_ids(lm, 30, seed=8))
    backbone.seat(1, _sequence(lm))
    old = backbone.launch([1], _uniforms(4, 1, lm))
    backbone.release(1)
    np.testing.assert_array_equal(_greedy(backbone, [1], 4), wanted)
    assert old.wait().chosen.shape == (4, 1, lm.num_channels)


def test_scores_that_are_no_numbers_end_one_sequence_alone(lm: LmConfig, lm_dir: Path) -> None:
    backbone = _open(lm, lm_dir)
    wanted = _greedy(backbone, [1], 8)
    for slot in (0, 1):
        backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
        backbone.seat(slot, _sequence(lm, max_steps=30))
    backbone._cache.values[0][0, :, 3] = torch.nan
    blocks = [backbone.launch([0, 1], _uniforms(4, 2, lm)).wait() for _ in range(2)]
    assert not blocks[0].is_sound[0, 0]
    assert all(block.is_sound[:, 1].all() for block in blocks)
    np.testing.assert_array_equal(
        np.concatenate([block.chosen for block in blocks])[:, 1], wanted[:, 0]
    )


def test_a_seat_needs_a_prompt_and_room(lm: LmConfig, lm_dir: Path) -> None:
    backbone = _open(lm, lm_dir)
    with pytest.raises(EngineError, match="slot 0 holds 0 rows"):
        backbone.seat(0, _sequence(lm))
    backbone.prefill(0, random_ids(lm, 50))
    with pytest.raises(EngineError, match="may need 69"):
        backbone.seat(0, _sequence(lm, max_steps=20))
    with pytest.raises(EngineError, match="allowed: 1 to 4, of different ones among"):
        backbone.launch([0], _uniforms(1, 1, lm))
    backbone.seat(0, _sequence(lm, max_steps=11))
    for slots, num_steps in (([0, 0], 1), ([0], 5), ([1], 1)):
        with pytest.raises(EngineError, match="different ones"):
            backbone.launch(slots, _uniforms(num_steps, len(slots), lm))


def test_the_plain_engine_takes_no_steps_on_its_own(lm: LmConfig, lm_dir: Path) -> None:
    assert not isinstance(open_backbone("torch", lm, lm_dir), DecodesOnDevice)
    assert not isinstance(open_backbone("onnx", lm, lm_dir), DecodesOnDevice)
    assert isinstance(_open(lm, lm_dir), DecodesOnDevice)


@pytest.mark.parametrize(
    ("max_batch", "heights"),
    [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_heights_are_powers_of_two_and_the_largest_batch(
    max_batch: int, heights: tuple[int, ...]
) -> None:
    assert batch_heights(max_batch) == heights


class Recorder:
    """Stands in for CUDA graphs: a recording replays what was recorded, and counts."""

    def __init__(self) -> None:
        self.replays: list[int] = []

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        number = len(self.replays)
        self.replays.append(0)
        # Tried once before it is recorded, as CUDA graphs are.
        work()

        def replay() -> None:
            self.replays[number] += 1
            work()

        return replay


def test_each_height_is_recorded_once_and_replayed() -> None:
    taken: list[tuple[int, bool]] = []

    def take(buffers: StepBuffers, has_history: bool) -> None:
        taken.append((len(buffers.places), has_history))

    record = Recorder()
    make: Any = lambda height: make_buffers(height, 4, 3, 9, torch.device("cpu"))  # noqa: E731
    graphs = StepGraphs((1, 2, 4), make, take, record)
    assert graphs.buffers(3).places.tolist() == [9, 9, 9, 9]
    graphs.replay(3, 4, has_history=False)
    graphs.replay(4, 1, has_history=False)
    graphs.replay(1, 2, has_history=True)
    assert record.replays == [5, 2]
    graphs.warm_up()
    assert record.replays == [5, 2, 0, 0, 0, 0]
    assert set(taken) == {(height, flag) for height in (1, 2, 4) for flag in (False, True)}


def test_recordings_made_beforehand_change_no_id(lm: LmConfig, lm_dir: Path) -> None:
    wanted = _greedy(_open(lm, lm_dir), [4, 0, 3], 9)
    backbone = _open(lm, lm_dir)
    backbone.warm_up()
    np.testing.assert_array_equal(_greedy(backbone, [4, 0, 3], 9), wanted)
