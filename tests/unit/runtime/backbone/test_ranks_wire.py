"""How ranks find each other, how a model is shared out, and what goes over the wire."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thread_ranks import WAIT_S

from duologue.runtime.backbone.ranks import World, mpi_world, share_of
from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.ranks_engines import check_splits
from duologue.runtime.backbone.ranks_lead import await_ready, report_ready
from duologue.runtime.backbone.ranks_link import Link, Meeting, join
from duologue.runtime.backbone.ranks_plan import Call, Op, decode_call, encode_call, step_call
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError, EngineError

PIECES = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 9000), st.integers(1, 5), st.booleans()),
    min_size=1,
    max_size=6,
)


def test_a_process_without_mpirun_is_alone() -> None:
    assert mpi_world({}) == World(0, 1)
    assert not mpi_world({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}).is_leader


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(1, 8))
def test_the_ranks_hold_every_head_and_every_row(
    size: int, groups: int, sharers: int, inner: int
) -> None:
    kv_heads = size * groups
    lm = LmConfig((5,), (0,), 8, inner * size, 1, kv_heads * sharers, kv_heads, 4)
    shares = [share_of(lm, World(rank, size)) for rank in range(size)]
    for name, total in (
        ("heads", lm.num_heads),
        ("kv_heads", kv_heads),
        ("inner", lm.intermediate_size),
    ):
        held = [i for share in shares for i in range(total)[getattr(share, name)]]
        assert held == list(range(total))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_every_query_head_finds_its_key_head_on_its_own_rank(
    kv_heads: int, copies: int, sharers: int
) -> None:
    size = kv_heads * copies
    lm = LmConfig((5,), (0,), 8, size, 1, size * sharers, kv_heads, 4)
    for rank in range(size):
        share = share_of(lm, World(rank, size))
        heads = range(lm.num_heads)[share.heads]
        wanted = {head * kv_heads // lm.num_heads for head in heads}
        assert wanted == set(range(kv_heads)[share.kv_heads])


def test_a_model_that_does_not_divide_is_refused_by_the_field() -> None:
    lm = LmConfig((5,), (0,), 8, 12, 1, 6, 3, 4)
    with pytest.raises(ConfigError, match=r"4 ranks cannot share lm.num_heads = 6"):
        share_of(lm, World(0, 4))
    with pytest.raises(ConfigError, match=r"2 ranks cannot share lm.num_kv_heads = 3"):
        share_of(lm, World(0, 2))


def test_an_engine_that_cannot_be_split_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"engine onnx cannot be split over 2.*numpy, trtllm"):
        check_splits("onnx", 2)
    check_splits("onnx", 1)
    check_splits("numpy", 2)


@given(PIECES, st.integers(1, 8))
def test_a_step_survives_the_wire(heads: list[tuple[int, int, int, bool]], channels: int) -> None:
    generator = np.random.default_rng(0)
    pieces = [
        Piece(slot, start, generator.integers(0, 200_000, (rows, channels)), is_prompt=is_prompt)
        for slot, start, rows, is_prompt in heads
    ]
    found = decode_call(encode_call(step_call(pieces)))
    assert found.op == Op.STEP
    for piece, copy in zip(pieces, found.pieces, strict=True):
        assert (piece.slot, piece.start) == (copy.slot, copy.start)
        assert piece.is_prompt == copy.is_prompt
        assert (piece.input_ids == copy.input_ids).all()


@given(st.sampled_from([op for op in Op if op != Op.STEP]), st.lists(st.integers(0, 2**60)))
def test_other_calls_survive_the_wire(op: Op, numbers: list[int]) -> None:
    found = decode_call(encode_call(Call(op, tuple(numbers))))
    assert (found.op, found.numbers) == (op, tuple(numbers))


def test_ranks_meet_and_say_when_they_are_ready() -> None:
    meeting = Meeting()

    def come() -> None:
        link = join(meeting.path, 1)
        report_ready(link)
        assert link.receive() is None
        link.close()

    guest = threading.Thread(target=come)
    guest.start()
    links = meeting.await_ranks(2, WAIT_S)
    meeting.close()
    assert list(links) == [1]
    await_ready(links)
    links[1].close()
    guest.join()
    assert not meeting.path.parent.exists()


def test_the_error_of_a_rank_reaches_rank_0() -> None:
    near, far = socket.socketpair()
    Link(far).send(b"ConfigError: rank 1: lm.safetensors cannot be read")
    with pytest.raises(ConfigError, match=r"rank 1: lm\.safetensors"):
        await_ready({1: Link(near)})
    far.close()
    with pytest.raises(EngineError, match="rank 1 has died"):
        await_ready({1: Link(near)})
    near.close()


def test_a_rank_that_does_not_come_is_named() -> None:
    meeting = Meeting()
    with pytest.raises(EngineError, match=r"rank \[1, 2\] did not come"):
        meeting.await_ranks(3, 0.01)
    meeting.close()


def test_ranks_of_two_machines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all ranks on one machine"):
        join(tmp_path / "elsewhere", 1)
