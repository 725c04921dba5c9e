# SPDX-License-Identifier: Apache-2.0
"""The ASGI app: routes, limits and errors put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from duologue.client.errors import DuologueError
from duologue.runtime.gateway import (
    autodl,
    dialogue,
    health,
    live_dialogue,
    live_speech,
    megatts3,
    megatts3_files,
    page,
    speech,
    speech_batch,
    voices,
)
from duologue.runtime.gateway.answer import fault_response
from duologue.runtime.gateway.bodies import BrokenBodyError
from duologue.runtime.gateway.faults import Fault, StorageError, fault_of
from duologue.runtime.gateway.house import House
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.gateway.threshold import Threshold

# No route knows more fields or files.
_MAX_FILES = 4
_MAX_FIELDS = 32
_MAX_CHAR_BYTES = 4
_SLACK_BYTES = 4096
_CALLER = "invalid_request_error"
_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(house: House) -> FastAPI:
    """The gateway as an ASGI app.

    Args:
        house: what its routes share; the connection is closed with the app.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with health.watching(house) as app.state.monitor:
                yield
        finally:
            await house.client.close()

    app = FastAPI(
        title="duologue",
        description="Two people talk: streaming dialogue speech.",
        lifespan=lifespan,
        # The pages of documentation fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # Beside the files, which leave memory when they are large.
        form_limits={
            "max_files": _MAX_FILES,
            "max_fields": _MAX_FIELDS,
            "max_part_size": house.settings.api.max_text_chars * _MAX_CHAR_BYTES + _SLACK_BYTES,
        },
    )
    app.state.house = house
    for room in (
        page,
        health,
        speech,
        speech_batch,
        voices,
        dialogue,
        live_dialogue,
        live_speech,
        megatts3,
        megatts3_files,
        autodl,
    ):
        app.include_router(room.router)
    app.mount("/static", page.static_files())
    app.add_exception_handler(DuologueError, _typed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _typed)
    _add_middleware(app, house)
    return app


def _add_middleware(app: FastAPI, house: House) -> None:
    """The last one added is the outermost: answers to strangers carry CORS headers, too."""
    app.add_middleware(Threshold, house=house)
    cors = house.settings.api.cors
    if cors.enabled:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors.origins,
            allow_methods=cors.methods,
            allow_headers=cors.headers,
        )


async def _typed(request: Request, error: Exception) -> JSONResponse:
    return fault_response(fault_of(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A body that does not fit its schema, by the name of the first wrong field."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if part != "body")
    message = f"{where or 'the body'}: {fault['msg']}"
    return fault_response(Fault(422, _CALLER, "invalid_body", message, where or None))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error, BrokenBodyError):
        fault = fault_of(error.cause)
        request.app.state.house.metrics.refused(fault.code)
        return fault_response(fault)
    if isinstance(error.__cause__, OSError):
        # A form that was read and could not be put away.
        log_event(logging.ERROR, "no room for an upload", why=str(error.__cause__))
        return fault_response(fault_of(StorageError(str(error.__cause__))))
    code = _CODES.get(error.status_code, "invalid_request")
    response = fault_response(Fault(error.status_code, _CALLER, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response
