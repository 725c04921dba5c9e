# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from duologue.client import errors
from duologue.client.http_errors import error_from_answer
from duologue.runtime.gateway import faults

URL = "http://localhost:9000"
KINDS = [row[0] for row in faults._TABLE]
# What a type wants beside its message.
FURTHER = {faults.UnsupportedError: ("field",), faults.RateLimitError: (5.0,)}


def twin(kind):
    """The nearest type of the client above a type of the gateway."""
    return next(cls for cls in kind.__mro__ if cls.__module__ == errors.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_gateway_comes_back_as_its_twin(kind):
    fault = faults.fault_of(kind("what was wrong", *FURTHER.get(kind, ())))
    caught = error_from_answer(fault.status, json.dumps(fault.body).encode(), URL)
    assert isinstance(caught, twin(kind))
    assert type(caught) is not errors.DuologueError
    assert str(caught) == fault.message


def test_error_of_no_type_is_the_servers_own():
    fault = faults.fault_of(KeyError("x"))
    caught = error_from_answer(fault.status, json.dumps(fault.body).encode(), URL)
    assert type(caught) is errors.EngineError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.RequestError),
        (401, errors.AccessError),
        (403, errors.AccessError),
        (404, errors.RequestError),
        (429, errors.CapacityError),
        (302, errors.EngineError),
        (500, errors.EngineError),
        (502, errors.ServerUnavailableError),
        (504, errors.ServerUnavailableError),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": "no"}', b'{"error": {"code": 1, "message": "no"}}']
)
def test_answer_of_somebody_else_is_judged_by_its_status(status, kind, body):
    caught = error_from_answer(status, body, URL)
    assert type(caught) is kind
    assert str(caught).startswith(f"{URL} answered {status}")


def test_only_the_beginning_of_a_strange_answer_is_shown():
    assert len(str(error_from_answer(500, b"x" * 10_000, URL))) < 300


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7.0), (" 30 ", 30.0), (None, None), ("Wed, 21 Oct", None)]
)
def test_a_full_server_says_when_to_ask_again(header, expected):
    body = b'{"error": {"code": "server_full", "message": "full"}}'
    for status, answer in ((503, body), (429, b"")):
        caught = error_from_answer(status, answer, URL, header)
        assert isinstance(caught, errors.CapacityError)
        assert caught.retry_after_s == expected


def test_every_passing_trouble_of_the_gateway_names_a_time():
    for error in (errors.CapacityError("full"), faults.RateLimitError("slow", 2.5)):
        assert "Retry-After" in faults.fault_of(error).headers
