# SPDX-License-Identifier: Apache-2.0
"""Keys of both gRPC clients, and what a gate in front of the server says of them."""

from __future__ import annotations

import grpc
import pytest
from fake_grpc_server import chunk, final

from duologue.client import AccessError, CapacityError, RequestError
from duologue.client.rpc import error_from_rpc


def test_the_key_goes_with_the_stream_and_with_its_acknowledgements(serve, connect):
    def plot(inputs, server):
        yield chunk(0)
        yield chunk(1, is_last=True)
        yield final()

    server = serve(plot)
    connect(server.url, api_key="s3cret").chunks("a", max_ahead_s=1.0)
    assert [shown["authorization"] for shown in server.metadata] == ["Bearer s3cret"] * 2


@pytest.mark.parametrize("key", ["caf\u00e9", "line\nbreak"])
def test_a_key_that_no_metadata_can_carry_is_refused_at_once(connect, key):
    with pytest.raises(RequestError, match="API key"):
        connect("localhost:1", api_key=key).is_ready()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, AccessError),
        (grpc.StatusCode.PERMISSION_DENIED, AccessError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, CapacityError),
        (grpc.StatusCode.INVALID_ARGUMENT, RequestError),
    ],
)
def test_the_refusal_of_a_gate_comes_back_by_its_type(serve, connect, code, kind):
    def plot(inputs, server):
        yield code

    with pytest.raises(kind, match="the plot wants it"):
        connect(serve(plot).url).chunks("a")


def test_a_message_that_is_too_large_is_the_callers_fault():
    class TooLarge(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self):
            return "CLIENT: Sent message larger than max (9 vs. 8)"

    assert type(error_from_rpc(TooLarge(), "far:8001")) is RequestError
