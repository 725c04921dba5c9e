from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.errors import CapacityError
from duologue.runtime.lm.scheduler import RELAXED_S, URGENT_S, Scheduler
from duologue.runtime.lm.sequence import SequenceStatus


class FakeSequence(SimpleNamespace):
    """What the scheduler looks at, and nothing else."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def is_prefilled(self) -> bool:
        return bool(self.num_prefilled == len(self.prompt_rows))


def sequence(num_rows: int = 3) -> Any:
    return FakeSequence(
        prompt_rows=[0] * num_rows, num_prefilled=0, slot=-1, status=SequenceStatus.WAITING
    )


def test_a_full_queue_refuses_at_once() -> None:
    scheduler = Scheduler(max_slots=2, max_waiting=1, max_prefill_rows=8)
    for _ in range(3):
        scheduler.add(sequence())
    with pytest.raises(CapacityError, match="2 slots"):
        scheduler.add(sequence())


def test_pieces_of_a_prompt_begin_at_multiples_of_the_limit() -> None:
    scheduler = Scheduler(max_slots=1, max_waiting=0, max_prefill_rows=4)
    one = sequence(num_rows=10)
    scheduler.add(one)
    pieces = []
    while (piece := scheduler.schedule().prefill) is not None:
        pieces.append((piece.start, piece.stop, piece.is_last))
        one.num_prefilled = piece.stop
    assert pieces == [(0, 4, False), (4, 8, False), (8, 10, True)]
    assert scheduler.schedule().decode == [one]


def test_a_paused_sequence_keeps_its_slot_and_does_not_decode() -> None:
    scheduler = Scheduler(max_slots=2, max_waiting=0, max_prefill_rows=8)
    one, other = sequence(), sequence()
    for each in (one, other):
        scheduler.add(each)
        scheduler.schedule()
        each.num_prefilled = 3
    assert scheduler.schedule(paused={one}).decode == [other]
    assert one.slot >= 0


def test_a_sequence_that_waits_can_leave() -> None:
    scheduler = Scheduler(max_slots=1, max_waiting=2, max_prefill_rows=8)
    first, second, third = sequence(), sequence(), sequence()
    for each in (first, second, third):
        scheduler.add(each)
    scheduler.schedule()
    assert scheduler.finish(second) is None
    assert scheduler.finish(first) == 0
    scheduler.schedule()
    assert scheduler.running == [third]


@given(st.lists(st.sampled_from(["add", "step", "finish"]), max_size=80), st.integers(1, 4))
def test_slots_are_never_shared_nor_lost(actions: list[str], max_slots: int) -> None:
    scheduler = Scheduler(max_slots=max_slots, max_waiting=3, max_prefill_rows=2)
    alive: list[Any] = []
    for action in actions:
        if action == "add":
            one = sequence()
            try:
                scheduler.add(one)
            except CapacityError:
                assert len(alive) >= max_slots + 3
            else:
                alive.append(one)
        elif action == "step":
            batch = scheduler.schedule()
            if batch.prefill is not None:
                batch.prefill.sequence.num_prefilled = batch.prefill.stop
        elif alive:
            scheduler.finish(alive.pop(0))
        seats = [each.slot for each in alive if each.slot >= 0]
        assert len(seats) == len(set(seats)) <= max_slots
        assert {each.slot for each in scheduler.running} == set(seats)
        assert len(scheduler.running) + len(scheduler.waiting) == len(alive)


def _running(scheduler: Scheduler, num_rows: int = 3, *, is_read: bool) -> Any:
    one = sequence(num_rows)
    scheduler.add(one)
    scheduler.schedule()
    one.num_prefilled = num_rows if is_read else 0
    return one


def test_the_prompt_of_the_most_urgent_listener_is_read_first() -> None:
    scheduler = Scheduler(max_slots=3, max_waiting=0, max_prefill_rows=2)
    first, second, third = (_running(scheduler, is_read=False) for _ in range(3))
    piece = scheduler.schedule(ahead_s={first: -0.1, second: 0.2, third: -0.4}).prefill
    assert piece is not None
    assert piece.sequence is third
    alike = scheduler.schedule().prefill
    assert alike is not None
    assert alike.sequence is first


@given(st.lists(st.tuples(st.booleans(), st.none() | st.floats(-5, 20)), max_size=8), st.booleans())
def test_only_the_relaxed_rest_and_only_while_somebody_is_urgent(
    listeners: list[tuple[bool, float | None]], may_rest: bool
) -> None:
    scheduler = Scheduler(max_slots=8, max_waiting=0, max_prefill_rows=2)
    running = [_running(scheduler, is_read=is_read) for is_read, _ in listeners]
    known = zip(running, listeners, strict=True)
    ahead_s = {one: ahead for one, (_, ahead) in known if ahead is not None}
    batch = scheduler.schedule(ahead_s=ahead_s, may_rest=may_rest)
    resting = [one for one in running if one.is_prefilled and one not in batch.decode]
    is_anyone_urgent = any(ahead < URGENT_S for ahead in ahead_s.values())
    assert not resting or (may_rest and is_anyone_urgent)
    assert all(ahead_s[one] > RELAXED_S for one in resting)
    assert batch.is_full == (not resting)
    if may_rest and is_anyone_urgent:
        assert all(ahead_s.get(one, 0.0) <= RELAXED_S for one in batch.decode)
