# SPDX-License-Identifier: Apache-2.0
"""Several texts in one request, each answered for itself: the batch of vLLM-Omni."""

from __future__ import annotations

import asyncio
import base64
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from duologue.runtime.gateway.answer import while_present, whole_body
from duologue.runtime.gateway.encode import MEDIA_TYPES, AudioFormat
from duologue.runtime.gateway.events import usage_of
from duologue.runtime.gateway.faults import fault_of
from duologue.runtime.gateway.fields import Name
from duologue.runtime.gateway.house import House, house_of
from duologue.runtime.gateway.keys import Visitor, visitor_of
from duologue.runtime.gateway.speaking import speak
from duologue.runtime.gateway.speech_fields import SpokenFields, wanted_speech

MAX_ITEMS = 32
# Of one batch; the rest waits, so that others find a place.
AT_ONCE = 4

router = APIRouter(prefix="/v1")


class BatchItem(SpokenFields):
    """One text; what it leaves out is the batch's."""

    input: str


class BatchBody(SpokenFields):
    """A batch.

    Attributes:
        model: may be left out.
        items: the texts.
    """

    model: Name | None = None
    response_format: AudioFormat = "wav"
    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_ITEMS)]


@router.post("/audio/speech/batch")
async def create_batch(body: BatchBody, request: Request) -> dict[str, Any]:
    """Speak several texts; one that fails does not hurt the others."""
    house, visitor = house_of(request), visitor_of(request)
    if body.model is not None:
        house.check_model(body.model)
    seats = asyncio.Semaphore(AT_ONCE)
    answers = asyncio.gather(
        *(_answer(house, body, idx, visitor, seats) for idx in range(len(body.items)))
    )
    results = await while_present(request, answers)
    succeeded = sum(result["status"] == "success" for result in results)
    return {
        "id": f"speech-batch-{visitor.request_id}",
        "results": results,
        "total": len(results),
        "succeeded": succeeded,
        "failed": len(results) - succeeded,
    }


async def _answer(
    house: House, body: BatchBody, idx: int, visitor: Visitor, seats: asyncio.Semaphore
) -> dict[str, Any]:
    item = _filled(body, body.items[idx])
    try:
        async with seats:
            if idx > 0:  # the first one was counted at the door
                house.rates.take(visitor)
            wanted = await wanted_speech(house, item.input, item, visitor, door="batch")
            async with aclosing(speak(house, wanted)) as stream:
                pieces = [piece async for piece in stream]
    except Exception as error:
        fault = fault_of(error)
        return {"index": idx, "status": "error", "error": fault.message, "code": fault.code}
    return {
        "index": idx,
        "status": "success",
        "audio_data": base64.b64encode(whole_body(pieces, wanted.audio_format)).decode(),
        "media_type": MEDIA_TYPES[wanted.audio_format],
        "usage": usage_of(len(item.input), sum(piece.audio_s for piece in pieces)),
    }


def _filled(body: BatchBody, item: BatchItem) -> BatchItem:
    """An item with what it leaves to the batch."""
    shared = body.model_dump(exclude={"items", "model"})
    own = item.model_dump(exclude_unset=True)
    return BatchItem.model_validate({**shared, **own})
