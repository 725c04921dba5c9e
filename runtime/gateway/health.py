# SPDX-License-Identifier: Apache-2.0
"""Is it alive, is it ready, and if not, why: found out by speaking.

Triton's own readiness stays true after the process of a model has died, so the monitor asks for
two frames of audio every now and then, and at once when a request failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from duologue.client.errors import CapacityError
from duologue.client.patience import within
from duologue.runtime.gateway.faults import fault_of
from duologue.runtime.gateway.house import House, house_of
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.gateway.machine import read_memory

PROBE_SCRIPT = "[S1]Hi."
PROBE_FRAMES = 2
# After a failure the next probe does not wait for its usual time.
RETRY_S = 1.0

router = APIRouter()


class Monitor:
    """Keeps an eye on the model.

    Attributes:
        reason: why the model does not speak, or None when it did at the last probe.
    """

    def __init__(self, house: House) -> None:
        self.reason: str | None = "the model has not been asked yet"
        self._house = house
        house.metrics.show("ready", "The model spoke at the last probe", self._is_ready)

    async def check(self) -> None:
        """Ask for a little audio and note what came of it; not while it is known to be away."""
        if self._house.outage.reason is not None:
            return
        timeout_s = self._house.settings.api.chunk_timeout
        try:
            await within(self._speak(), timeout_s)
            self._note(None)
        except CapacityError:
            self._note(None)  # it answers, and is busy
        except asyncio.TimeoutError:
            self._note(f"the model did not speak in {timeout_s:g} s")
        except Exception as error:  # a monitor that died would keep its last word for ever
            self._note(fault_of(error).message)

    async def run(self) -> None:
        """Check for ever."""
        while True:
            await self.check()
            interval_s = self._house.settings.api.monitoring.health_check_interval
            await self._house.trouble.wait_for(interval_s if self.reason is None else RETRY_S)

    async def _speak(self) -> None:
        async with self._house.client.stream(PROBE_SCRIPT, max_frames=PROBE_FRAMES) as stream:
            while not (await stream.__anext__()).is_last:
                pass
            with suppress(StopAsyncIteration):
                await stream.__anext__()

    def _is_ready(self) -> float:
        return float(self.reason is None)

    def _note(self, reason: str | None) -> None:
        if reason != self.reason:
            state = "ready" if reason is None else "not ready"
            log_event(logging.WARNING, f"the model is {state}", reason=reason or "it spoke")
        self.reason = reason


@asynccontextmanager
async def watching(house: House) -> AsyncIterator[Monitor]:
    """A monitor that runs for the length of the block."""
    monitor = Monitor(house)
    task = asyncio.create_task(monitor.run())
    try:
        yield monitor
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@router.get("/livez")
async def live() -> dict[str, str]:
    """The gateway itself answers; that is all this says."""
    return {"status": "alive"}


@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    """Whether a request would be served now; 503 with the reasons if not."""
    reasons = await _reasons(request)
    return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Health in the words of the MegaTTS3 platform; any code but 200 means unhealthy."""
    reasons = await _reasons(request)
    memory, is_gpu = await asyncio.to_thread(read_memory)
    body: dict[str, Any] = {
        "status": "unhealthy" if reasons else "healthy",
        "version": version("duologue"),
        "model_loaded": not reasons,
        "gpu_available": is_gpu,
        "memory_usage": memory.as_texts(),
    }
    if reasons:
        body["reasons"] = reasons
    return JSONResponse(body, 503 if reasons else 200)


@router.get("/status")
async def status(request: Request) -> dict[str, Any]:
    """What the page shows: how much is going on."""
    house = house_of(request)
    return {
        "active_streams": house.admission.num_running,
        "max_streams": house.settings.api.max_streams,
        "is_draining": house.admission.is_draining,
    }


async def _reasons(request: Request) -> list[str]:
    house = house_of(request)
    monitor: Monitor = request.app.state.monitor
    reasons = []
    if house.admission.is_draining:
        reasons.append("the server is about to stop")
    if house.outage.reason is not None:
        reasons.append(house.outage.reason)
    elif not await house.client.is_ready():
        reasons.append("the speech server does not answer, or its model is not loaded")
    elif monitor.reason is not None:
        reasons.append(monitor.reason)
    return reasons
