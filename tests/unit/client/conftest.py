# SPDX-License-Identifier: Apache-2.0
"""Fake servers, and the sync and the asyncio clients behind one set of verbs."""

from __future__ import annotations

import contextlib

import pytest
from client_verbs import AsyncVerbs, SyncVerbs
from fake_grpc_server import FakeTriton
from fake_http_server import FakeGateway

from duologue.client import (
    AsyncDialogueClient,
    AsyncHttpDialogueClient,
    DialogueClient,
    HttpDialogueClient,
)


@pytest.fixture
def serve():
    """Start a fake server on a plot; stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(plot, **kwargs):
            server = FakeTriton(plot, **kwargs)
            stack.callback(server.stop)
            return server

        yield start


def open_clients(kind, sync_class, async_class):
    """A function that connects a client of a kind; what it made is closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(url, **kwargs):
            if kind == "sync":
                verbs = SyncVerbs(lambda: sync_class(url, **kwargs))
            else:
                verbs = AsyncVerbs(lambda: async_class(url, **kwargs))
            stack.callback(verbs.close)
            return verbs

        yield start


@pytest.fixture(params=["sync", "asyncio"])
def connect(request):
    """Connect either gRPC client to a url; closed after the test."""
    yield from open_clients(request.param, DialogueClient, AsyncDialogueClient)


@pytest.fixture
def serve_http():
    """Start a fake gateway on a plot; stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(plot, **kwargs):
            server = FakeGateway(plot, **kwargs)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(params=["sync", "asyncio"])
def connect_http(request):
    """Connect either HTTP client to a url; closed after the test."""
    yield from open_clients(request.param, HttpDialogueClient, AsyncHttpDialogueClient)
