# SPDX-License-Identifier: Apache-2.0
"""The page that Prometheus reads: the gateway's numbers and Triton's together."""

from __future__ import annotations

import asyncio
import urllib.request

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from duologue.client.errors import DuologueError
from duologue.runtime.gateway.answer import fault_response
from duologue.runtime.gateway.faults import fault_of
from duologue.runtime.gateway.host_names import HostNames
from duologue.runtime.gateway.keys import visitor_at
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.settings import is_loopback
from duologue.runtime.gateway.watched_keys import WatchedKeys
from duologue.runtime.keys import ADMIN

_TRITON_TIMEOUT_S = 2.0
_MAX_TRITON_BYTES = 10_000_000


def create_metrics_app(
    metrics: Metrics,
    triton_url: str | None,
    keys: WatchedKeys | None = None,
    names: HostNames | None = None,
) -> ASGIApp:
    """The metrics as an ASGI app with the one route `/metrics`.

    Args:
        metrics: the gateway's own.
        triton_url: address of Triton's metrics, or None.
        keys: where there are any, callers from other machines show one with the scope "admin".
        names: by which callers without a key may reach it; None takes any.
    """

    async def page(request: Request) -> Response:
        try:
            await _check(request, keys, names)
        except DuologueError as error:
            return fault_response(fault_of(error))
        # In a thread: asking the GPUs runs a program, and Triton may be slow.
        own = await asyncio.to_thread(metrics.page)
        theirs = await asyncio.to_thread(_fetch, triton_url)
        up = f"# TYPE duologue_triton_up gauge\nduologue_triton_up {int(theirs is not None)}\n"
        return Response(own + up.encode() + (theirs or b""), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/metrics", page)])


async def _check(request: Request, keys: WatchedKeys | None, names: HostNames | None) -> None:
    host = request.client.host if request.client else ""
    if keys is not None and not keys.is_empty and not is_loopback(host):
        await visitor_at(keys, request, ADMIN)
    elif names is not None:
        names.check(request.headers.get("host", ""))


def _fetch(url: str | None) -> bytes | None:
    if url is None:
        return None
    # Without a proxy: it is this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TRITON_TIMEOUT_S) as answer:
            text: bytes = answer.read(_MAX_TRITON_BYTES)
            return text
    except OSError:
        return None
