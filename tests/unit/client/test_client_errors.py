# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from duologue.client import errors
from duologue.client.errors import error_from_wire
from duologue.runtime import errors as runtime_errors

SENT_TYPES = [
    "AccessError",
    "CancelledError",
    "CapacityError",
    "DeadlineError",
    "EngineError",
    "EngineUnavailableError",
    "PromptTooLongError",
    "RequestError",
    "ScriptError",
    "VoiceError",
]


@pytest.mark.parametrize("name", SENT_TYPES)
def test_each_error_of_the_server_comes_back_as_its_twin(name):
    raised = getattr(runtime_errors, name)("seed is 'a': not a number")
    caught = error_from_wire(f"{type(raised).__name__}: {raised}")
    assert type(caught) is getattr(errors, name)
    assert str(caught) == str(raised)


def test_every_error_that_a_request_can_cause_has_a_twin():
    tree = {
        cls.__name__
        for cls in runtime_errors.DuologueError.__subclasses__()
        if cls.__module__ == runtime_errors.__name__
    }
    assert tree - set(SENT_TYPES) == {"ConfigError"}


def test_place_of_a_script_error_survives_the_wire():
    raised = runtime_errors.ScriptError("no such tag", line=3, column=14)
    caught = error_from_wire(f"ScriptError: {raised}")
    assert isinstance(caught, errors.ScriptError)
    assert (caught.line, caught.column) == (3, 14)


def test_script_error_without_a_place_has_none():
    caught = error_from_wire("ScriptError: the script is empty")
    assert isinstance(caught, errors.ScriptError)
    assert (caught.line, caught.column) == (None, None)


@pytest.mark.parametrize(
    "text",
    ["Stub process 'x' is not healthy.", "KeyError: 'x'", "", "ScriptError", "DuologueError: x"],
)
def test_unknown_text_is_an_engine_error_with_all_of_it(text):
    caught = error_from_wire(text)
    assert type(caught) is errors.EngineError
    assert str(caught) == text
