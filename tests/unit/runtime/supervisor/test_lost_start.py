from __future__ import annotations

from pathlib import Path

import pytest

from duologue.runtime.errors import ConfigError, DuologueError, EngineError
from duologue.runtime.supervisor.embedded import EmbeddedServer
from duologue.runtime.supervisor.log import start_failure

CRASH = """I1121 model_lifecycle.cc:472] "loading: dialogue_tts:1"
terminate called after throwing an instance of 'boost::interprocess::lock_exception'
  what():  boost::interprocess::lock_exception
"""


def starts(monkeypatch: pytest.MonkeyPatch, *outcomes: DuologueError | None) -> list[None]:
    """Let the attempts of a server go as said; what is returned counts them."""
    left, made = list(outcomes), []

    def attempt(self: EmbeddedServer) -> None:
        made.append(None)
        outcome = left.pop(0)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(EmbeddedServer, "_start", attempt)
    return made


@pytest.fixture
def crash(tmp_path: Path) -> DuologueError:
    log = tmp_path / "triton.log"
    log.write_text(CRASH, encoding="utf-8")
    return start_failure(log)


def test_a_start_that_triton_lost_to_a_lock_is_made_again(
    monkeypatch: pytest.MonkeyPatch, crash: DuologueError
) -> None:
    made = starts(monkeypatch, crash, None)
    EmbeddedServer("noise").start()
    assert len(made) == 2


def test_it_is_made_again_once(monkeypatch: pytest.MonkeyPatch, crash: DuologueError) -> None:
    made = starts(monkeypatch, crash, crash)
    with pytest.raises(EngineError, match="lock_exception"):
        EmbeddedServer("noise").start()
    assert len(made) == 2


@pytest.mark.parametrize("failure", [ConfigError("max_slots is 0"), EngineError("no model")])
def test_a_model_that_does_not_load_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, failure: DuologueError
) -> None:
    made = starts(monkeypatch, failure)
    with pytest.raises(type(failure)):
        EmbeddedServer("noise").start()
    assert len(made) == 1
