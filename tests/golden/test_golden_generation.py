"""Free-running greedy generation through the real engine gives the recorded ids.

In float32 on both engines, for each row alone, in its recorded batch, and among unrelated
sequences that come and go.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import golden_lm
import numpy as np
import pytest
import torch
from golden_lm import Bench, GoldenRow, WatchedBackbone
from random_lms import build_lm, open_backbone

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FinishReason
from duologue.runtime.errors import CancelledError
from duologue.runtime.lm.sequence import Sequence
from duologue.runtime.stream import SpeechStream

ROWS = {row.name: row for case in golden_lm.GREEDY_CASES for row in golden_lm.read_rows(case)}
NUM_SLOTS = 6
NUM_NEIGHBOURS = 16


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("lm_scaled")
    return build_lm(golden_lm.DATA, directory), directory


@pytest.fixture(scope="module", params=["torch", "onnx"])
def backbone(request: pytest.FixtureRequest, built: tuple[LmConfig, Path]) -> Iterator[Backbone]:
    engine = open_backbone(request.param, *built, max_slots=NUM_SLOTS, max_rows=golden_lm.MAX_ROWS)
    yield engine
    engine.close()


def _assert_recorded(row: GoldenRow, sequence: Sequence, stream: SpeechStream) -> None:
    """The ids of every row that was written, the frames, and the way it ended."""
    (last,) = list(stream)
    np.testing.assert_array_equal(np.stack(sequence.new_rows), row.wanted_rows, row.name)
    np.testing.assert_array_equal(stream.codes, row.wanted_frames, row.name)
    was_cut = row.name == "b1_prompt3[0]"
    assert last.finish_reason is (FinishReason.LENGTH if was_cut else FinishReason.STOP)


def test_every_greedy_case_is_there() -> None:
    assert len(ROWS) == 12
    assert sum(row.wanted_frames.shape[1] for row in ROWS.values()) > 300


@pytest.mark.parametrize("name", ROWS)
def test_a_row_alone_gives_the_recorded_ids(backbone: Backbone, name: str) -> None:
    row = ROWS[name]
    with Bench(backbone) as bench:
        sequence = row.start(backbone.spec.lm)
        _assert_recorded(row, sequence, bench.submit(sequence))


@pytest.mark.parametrize("case", [case for case in golden_lm.GREEDY_CASES if case[1] != "1"])
def test_the_rows_of_a_batch_give_the_recorded_ids(backbone: Backbone, case: str) -> None:
    rows = [row for name, row in ROWS.items() if name.startswith(case)]
    watched = WatchedBackbone(backbone)
    with Bench(watched) as bench:
        sequences = [row.start(backbone.spec.lm) for row in rows]
        streams = [bench.submit(sequence) for sequence in sequences]
        for row, sequence, stream in zip(rows, sequences, streams, strict=True):
            _assert_recorded(row, sequence, stream)
    assert max(len(batch) for batch in watched.batches) == 3


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_among_strangers_that_come_and_go_give_the_recorded_ids(
    backbone: Backbone, seed: int
) -> None:
    """All recorded rows in random order, neighbours between them, every third one cancelled."""
    rng = np.random.default_rng(seed)
    lm = backbone.spec.lm
    mixed: list[GoldenRow | None] = [*ROWS.values(), *[None] * NUM_NEIGHBOURS]
    order = [mixed[place] for place in rng.permutation(len(mixed))]
    strangers: list[SpeechStream] = []
    cancel_at = {int(step): place for place, step in enumerate(rng.integers(1, 80, 6))}

    all_submitted = threading.Event()

    def cancel_some(step: int) -> None:
        all_submitted.wait()
        if step in cancel_at:
            strangers[3 * cancel_at[step]].cancel()

    watched = WatchedBackbone(backbone, cancel_some)
    started: list[tuple[GoldenRow, Sequence, SpeechStream]] = []
    with Bench(watched) as bench:
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
    assert 0 < num_cancelled < NUM_NEIGHBOURS
    assert len(set(watched.batches)) > 20, "sequences were to come and go"


def _ends_cancelled(stream: SpeechStream) -> bool:
    try:
        list(stream)
    except CancelledError:
        return True
    return False
