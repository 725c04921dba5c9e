# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import fake_grpc_server as fake
import pytest

from duologue.client.errors import ScriptError


def test_a_call_that_ends_in_an_error_is_closed_by_the_server_not_cancelled(serve, connect):
    def plot(inputs, server):
        yield fake.error("ScriptError: nothing is said")
        time.sleep(0.2)

    server = serve(plot)
    with pytest.raises(ScriptError):
        connect(server.url).chunks("[S1]")
    time.sleep(0.1)
    assert not server.cancelled.is_set()


def test_an_error_without_an_end_is_told_all_the_same(serve, connect):
    def plot(inputs, server):
        yield fake.error("ScriptError: nothing is said")
        server.release.wait(30)

    server = serve(plot)
    with pytest.raises(ScriptError):
        connect(server.url).chunks("[S1]")
    assert server.cancelled.wait(10)
    server.release.set()
