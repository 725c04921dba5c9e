"""A model split over ranks: the same logits, and what happens when a rank dies."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from random_lms import build_random_lm, random_ids
from thread_ranks import WAIT_S, Crew, all_logits, alone

from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.ranks_lead import LOST_EXIT_STATUS
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("split_lm")
    return build_random_lm(directory, num_heads=8, num_kv_heads=2), directory


@pytest.fixture
def make_crew(built: tuple[LmConfig, Path]) -> Iterator[Callable[[int], Crew]]:
    crews: list[Crew] = []

    def make(size: int) -> Crew:
        crews.append(Crew(*built, size))
        return crews[-1]

    yield make
    for crew in crews:
        if not crew.losses:
            crew.backbone.close()
        crew.join()


@pytest.mark.parametrize("size", [2, 4])
def test_split_over_ranks_the_logits_stay(
    built: tuple[LmConfig, Path], make_crew: Callable[[int], Crew], size: int
) -> None:
    crew = make_crew(size)
    split, whole = all_logits(crew.backbone, built[0]), all_logits(alone(built), built[0])
    np.testing.assert_allclose(split, whole, rtol=0, atol=1e-5)
    kv_bytes = [body.spec.kv_bytes_per_row for body in crew.bodies]
    assert len(set(kv_bytes)) == 1
    assert kv_bytes[0] == alone(built).spec.kv_bytes_per_row // 2


def test_closing_ends_the_other_ranks_in_order(make_crew: Callable[[int], Crew]) -> None:
    crew = make_crew(2)
    crew.backbone.close()
    crew.join()
    assert (crew.num_closed, crew.statuses, crew.losses) == (1, [], [])


def test_a_prefix_that_is_let_go_is_dropped_by_all_ranks(
    built: tuple[LmConfig, Path], make_crew: Callable[[int], Crew]
) -> None:
    crew = make_crew(2)
    crew.backbone.prefill(0, random_ids(built[0], 9))
    handle = crew.backbone.save_prefix(0, 5)
    assert (handle.num_rows, handle.num_bytes) == (5, 5 * crew.backbone.spec.kv_bytes_per_row)
    del handle
    gc.collect()
    assert list(crew.leading._dropped) == [0]
    crew.backbone.release(0)
    assert not crew.leading._dropped


def test_a_rank_that_dies_between_steps_ends_the_next_call(
    built: tuple[LmConfig, Path], make_crew: Callable[[int], Crew]
) -> None:
    crew = make_crew(2)
    crew.backbone.prefill(0, random_ids(built[0], 9))
    crew.ends[1].close()
    while not crew.losses:
        threading.Event().wait(0.01)
    for _ in range(2):
        with pytest.raises(EngineError, match="rank 1 has died"):
            crew.backbone.decode([0], random_ids(built[0], 1))
    assert len(crew.losses) == 1


def test_a_rank_that_dies_within_a_step_does_not_hold_it_up(
    built: tuple[LmConfig, Path], make_crew: Callable[[int], Crew]
) -> None:
    crew = make_crew(2)
    follower = crew.bodies[1]

    def die(pieces: Sequence[Piece]) -> FloatArray:
        crew.ends[1].close()
        raise EngineError("out of memory")

    follower.step = die  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="died"):
        crew.backbone.prefill(0, random_ids(built[0], 9))
    assert crew.losses


def test_the_others_end_when_rank_0_has_gone(make_crew: Callable[[int], Crew]) -> None:
    crew = make_crew(4)
    crew.leading._lose("rank 0 failed")
    crew.join()
    assert crew.statuses == [LOST_EXIT_STATUS] * 3


def test_a_failure_on_rank_0_ends_all(
    built: tuple[LmConfig, Path], make_crew: Callable[[int], Crew]
) -> None:
    crew = make_crew(2)

    def fail(pieces: Sequence[Piece]) -> FloatArray:
        raise MemoryError("no room")

    crew.bodies[0].step = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        crew.backbone.prefill(0, random_ids(built[0], 9))
    # The rank's own thread may be through before the one that reads its link has seen the end.
    assert crew.has_ended.wait(WAIT_S)
    crew.join()
    assert LOST_EXIT_STATUS in crew.statuses
    assert "no room" in crew.losses[0]


def test_a_step_that_never_comes_back_ends_the_process(
    built: tuple[LmConfig, Path],
    make_crew: Callable[[int], Crew],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("duologue.runtime.backbone.ranks_lead.EXIT_AFTER_S", 0.05)
    crew, ended = make_crew(2), threading.Event()

    def stuck(pieces: Sequence[Piece]) -> FloatArray:
        crew.ends[1].close()
        assert ended.wait(WAIT_S)
        raise EngineError("a rank has died")

    crew.leading._end_process = lambda status: ended.set()
    crew.bodies[0].step = stuck  # type: ignore[method-assign]
    with pytest.raises(EngineError):
        crew.backbone.prefill(0, random_ids(built[0], 9))
    assert ended.is_set()
