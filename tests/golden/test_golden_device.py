"""Steps on the device, through the real engine: the recorded ids, and the host's where it draws.

The fused step as a GPU runs it, operation by operation on a CPU in float32; a recording of it is
the only part that needs the GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import golden_lm
import numpy as np
import pytest
import torch
from golden_lm import Bench, GoldenRow
from random_lms import build_lm, open_backbone

from duologue.runtime.backbone.device import DecodesOnDevice, WideArray
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.config import LmConfig
from duologue.runtime.core import ChannelSampling, FinishReason
from duologue.runtime.errors import CancelledError, EngineError
from duologue.runtime.lm.sequence import Sequence as Speech
from duologue.runtime.stream import SpeechStream

ROWS = {row.name: row for case in golden_lm.GREEDY_CASES for row in golden_lm.read_rows(case)}
SAMPLED = (
    ChannelSampling(temperature=0.8, top_k=50, top_p=0.95),
    ChannelSampling(temperature=1.2, top_p=0.7),
    ChannelSampling(repetition_penalty=1.2, top_k=20),
    ChannelSampling(do_sample=False),
    *(ChannelSampling(temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.1),) * 4,
)
NO_TOP_K = (ChannelSampling(),) * 8


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("lm_scaled")
    return build_lm(golden_lm.DATA, directory), directory


class Watched(TorchDeviceBackbone):
    """Notes how many sequences share each block, and how long it is."""

    on_launch: Callable[[int], None] = staticmethod(lambda block: None)

    def launch(self, slots: Sequence[int], uniforms: WideArray) -> Any:
        self.on_launch(len(self.blocks))
        self.blocks.append((len(slots), len(uniforms)))
        return super().launch(slots, uniforms)

    def watch(self) -> list[tuple[int, int]]:
        self.blocks: list[tuple[int, int]] = []
        return self.blocks


@pytest.fixture(scope="module")
def crowded(built: tuple[LmConfig, Path]) -> Watched:
    lm, directory = built
    weights = directory / "lm.safetensors"
    backbone = Watched(lm, weights, max_slots=64, max_rows=golden_lm.MAX_ROWS)
    assert isinstance(backbone, DecodesOnDevice)
    return backbone


def _assert_recorded(row: GoldenRow, sequence: Speech, stream: SpeechStream) -> None:
    (last,) = list(stream)
    np.testing.assert_array_equal(np.stack(sequence.new_rows), row.wanted_rows, row.name)
    np.testing.assert_array_equal(stream.codes, row.wanted_frames, row.name)
    was_cut = row.name == "b1_prompt3[0]"
    assert last.finish_reason is (FinishReason.LENGTH if was_cut else FinishReason.STOP)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_alone_gives_the_recorded_ids_on_the_device(crowded: Watched, name: str) -> None:
    blocks = crowded.watch()
    with Bench(crowded) as bench:
        sequence = ROWS[name].start(crowded.spec.lm)
        _assert_recorded(ROWS[name], sequence, bench.submit(sequence))
    # Step by step while the first audio is waited for, then in longer blocks.
    assert {size for _, size in blocks[:5]} == {1}
    assert max(size for _, size in blocks) == crowded.max_block_steps or len(blocks) < 20


@pytest.mark.parametrize("seed", [1, 2])
def test_recorded_rows_among_strangers_on_the_device(crowded: Watched, seed: int) -> None:
    """All recorded rows at once, 50 neighbours between them, some of which are cancelled."""
    rng, lm = np.random.default_rng(seed), crowded.spec.lm
    mixed: list[GoldenRow | None] = [*ROWS.values(), *[None] * 50]
    order = [mixed[place] for place in rng.permutation(len(mixed))]
    strangers: list[SpeechStream] = []
    all_submitted = threading.Event()

    def cancel_some(block: int) -> None:
        all_submitted.wait()
        alive = [stream for stream in strangers if not stream.is_ended]
        if block % 10 == 5 and alive:
            alive[0].cancel()

    blocks = crowded.watch()
    crowded.on_launch = cancel_some  # type: ignore[method-assign]
    started: list[tuple[GoldenRow, Speech, SpeechStream]] = []
    with Bench(crowded) as bench:
        for row in order:
            if row is None:
                strangers.append(bench.submit(golden_lm.random_neighbour(lm, rng)))
            else:
                sequence = row.start(lm)
                started.append((row, sequence, bench.submit(sequence)))
        all_submitted.set()
        for row, sequence, stream in started:
            _assert_recorded(row, sequence, stream)
        num_cancelled = sum(_ends_cancelled(stream) for stream in strangers)
    crowded.on_launch = lambda block: None  # type: ignore[method-assign]
    assert num_cancelled > 0
    assert len({batch for batch, _ in blocks}) > 8, "sequences were to come and go"


class _LostBlock:
    """What a device answers that has failed."""

    def wait(self) -> Any:
        raise RuntimeError("the device failed")


def test_steps_that_a_device_lost_fail_their_own_callers_and_nobody_after_them(
    crowded: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded.watch()
    row, launch, lost = next(iter(ROWS.values())), crowded.launch, range(3, 5)

    def lose_two(slots: Sequence[int], uniforms: WideArray) -> Any:
        block = launch(slots, uniforms)
        return _LostBlock() if len(crowded.blocks) in lost else block

    monkeypatch.setattr(crowded, "launch", lose_two)
    with Bench(crowded) as bench:
        with pytest.raises(EngineError, match="the engine failed"):
            list(bench.submit(row.start(crowded.spec.lm)))
        sequence = row.start(crowded.spec.lm)
        _assert_recorded(row, sequence, bench.submit(sequence))


def _ends_cancelled(stream: SpeechStream) -> bool:
    try:
        list(stream)
    except CancelledError:
        return True
    return False


def _sampled(lm: LmConfig, seed: int, channels: tuple[ChannelSampling, ...]) -> Speech:
    rows = list(ROWS.values())
    aligned = rows[seed % len(rows)].aligned
    return golden_lm.start_sequence(lm, aligned, channels, seed=seed, max_frames=30)


@pytest.fixture(scope="module")
def by_host(built: tuple[LmConfig, Path]) -> Iterator[dict[int, np.ndarray]]:
    """What the host's sampler writes, each sequence alone."""
    wanted = {}
    backbone = open_backbone("torch", *built, max_slots=1, max_rows=golden_lm.MAX_ROWS)
    with Bench(backbone) as bench:
        for seed in range(12):
            channels = NO_TOP_K if seed in (3, 7) else SAMPLED
            sequence = _sampled(built[0], seed, channels)
            list(bench.submit(sequence))
            wanted[seed] = np.stack(sequence.new_rows)
    return wanted


@pytest.mark.parametrize("num_neighbours", [0, 52])
def test_the_same_seed_gives_the_hosts_ids_at_every_batch(
    crowded: Watched, by_host: dict[int, np.ndarray], num_neighbours: int
) -> None:
    rng, lm = np.random.default_rng(9), crowded.spec.lm
    crowded.watch()
    with Bench(crowded) as bench:
        neighbours = [
            bench.submit(golden_lm.random_neighbour(lm, rng)) for _ in range(num_neighbours)
        ]
        pairs = []
        for seed in by_host:
            # Two choose from the whole vocabulary, which the device leaves to the host.
            sequence = _sampled(lm, seed, NO_TOP_K if seed in (3, 7) else SAMPLED)
            stream = bench.submit(sequence)
            if not num_neighbours:
                list(stream)
            pairs.append((seed, sequence, stream))
        for neighbour in neighbours[::3]:
            neighbour.cancel()
        for seed, sequence, stream in pairs:
            list(stream)
            np.testing.assert_array_equal(np.stack(sequence.new_rows), by_host[seed], str(seed))
