# SPDX-License-Identifier: Apache-2.0
"""Engines that can be split over ranks, and how a rank takes its part.

On rank 0 the engine looks like any other. The other ranks hold no server: they load their share
when rank 0 says of what, and follow it.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.runtime.backbone.ranks import Alone, RankGroup, World
from duologue.runtime.backbone.ranks_body import Body, BodyBackbone
from duologue.runtime.backbone.ranks_link import Link, Meeting, join
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError, DuologueError, EngineError

if TYPE_CHECKING:
    from duologue.runtime.backbone.registry import EngineRequest

MEET_TIMEOUT_S = 120.0

_log = logging.getLogger(__name__)


def _numpy_body(request: EngineRequest, ranks: RankGroup) -> Body:
    from duologue.runtime.backbone.numpy_body import NumpyBody

    return NumpyBody(
        request.lm,
        request.path("weights"),
        max_slots=request.max_slots,
        max_rows=request.max_rows,
        ranks=ranks,
    )


def _trtllm_body(request: EngineRequest, ranks: RankGroup) -> Body:
    from duologue.runtime.backbone.trtllm_require import require_tensorrt_llm

    require_tensorrt_llm()
    from duologue.runtime.backbone.trtllm_backbone import open_body

    return open_body(request, ranks)


BODIES: dict[str, Callable[[EngineRequest, RankGroup], Body]] = {
    "numpy": _numpy_body,
    "trtllm": _trtllm_body,
}
"""Engine -> what makes a rank's share of it."""


def check_splits(engine: str, num_ranks: int) -> None:
    """Refuse several ranks for an engine that cannot be split.

    Args:
        engine: its kind; "auto" is settled by the bundle, later.
        num_ranks: how many are wanted.

    Raises:
        ConfigError: the engine cannot be split.
    """
    if num_ranks > 1 and engine not in BODIES and engine != "auto":
        raise ConfigError(
            f"engine {engine} cannot be split over {num_ranks} ranks; "
            f"allowed with more than one: {', '.join(BODIES)}"
        )


def open_alone(engine: str, request: EngineRequest) -> BodyBackbone:
    """An engine that can be split, on one rank."""
    return BodyBackbone(BODIES[engine](request, Alone()))


def open_leader(engine: str, request: EngineRequest, world: World) -> BodyBackbone:
    """An engine on rank 0, which the other ranks follow from now on.

    Args:
        engine: its kind.
        request: what it gets.
        world: of which this is rank 0.

    Raises:
        ConfigError, EngineUnavailableError: a rank could not load its share.
        EngineError: a rank has died, or did not come.
    """
    check_splits(engine, world.size)
    from duologue.runtime.backbone.ranks_lead import Group, LeadingBody, await_ready
    from duologue.runtime.backbone.ranks_mpi import MpiGroup

    group = MpiGroup(world)
    meeting = Meeting()
    try:
        group.share_path(meeting.path)
        links = meeting.await_ranks(world.size, MEET_TIMEOUT_S)
    finally:
        meeting.close()
    order = {
        "engine": engine,
        "bundle": str(request.directory.resolve()),
        "max_slots": request.max_slots,
        "max_rows": request.max_rows,
    }
    for link in links.values():
        link.send(json.dumps(order).encode())
    body = BODIES[engine](request, group)
    await_ready(links)

    def on_loss(reason: str) -> None:
        group.lost = reason

    return BodyBackbone(LeadingBody(body, Group(links, on_loss, group.close)))


def follow_leader(world: World) -> None:
    """Run a rank other than 0 until rank 0 closes its engine.

    Args:
        world: which rank this is.

    Raises:
        DuologueError: this rank's share could not be loaded; rank 0 has been told.
        EngineError: rank 0 has gone.
    """
    from duologue.runtime.backbone.ranks_follow import follow
    from duologue.runtime.backbone.ranks_mpi import MpiGroup

    # mpirun asks all ranks to end at once, but rank 0 has streams to finish: it says when.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    group = MpiGroup(world)
    link = join(group.share_path(None), world.rank)
    body = _load_share(link, group)
    _log.info("rank %d of %d follows rank 0", world.rank, world.size)
    follow(body, link, world.rank)
    group.close()


def _load_share(link: Link, group: RankGroup) -> Body:
    from duologue.runtime.backbone.ranks_lead import report_ready
    from duologue.runtime.backbone.registry import make_request

    message = link.receive()
    if message is None:
        raise EngineError(f"rank {group.world.rank}: rank 0 has gone before it said what to load")
    order = json.loads(message)
    directory = Path(order["bundle"])
    try:
        request = make_request(
            Bundle.load(directory),
            directory,
            order["engine"],
            order["max_slots"],
            order["max_rows"],
        )
        body = BODIES[order["engine"]](request, group)
    except DuologueError as error:
        link.send(f"{type(error).__name__}: rank {group.world.rank}: {error}".encode())
        raise
    report_ready(link)
    return body
