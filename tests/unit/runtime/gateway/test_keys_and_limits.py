from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.client import errors as client_errors
from duologue.client.errors import CapacityError, DuologueError
from duologue.runtime.gateway import faults
from duologue.runtime.gateway.faults import RateLimitError, fault_of
from duologue.runtime.gateway.keys import Visitor, is_keyed, load_keys, scope_of
from duologue.runtime.gateway.limits import MAX_CALLERS, Admission, RateLimiter
from duologue.runtime.gateway.setting_groups import AuthSettings, RateLimitSettings
from duologue.runtime.keys import digest_of


def key_file(folder: Path, text: str) -> AuthSettings:
    path = folder / "keys"
    path.write_text(text)
    return AuthSettings(keys_file=path)


def test_keys_of_file_and_environment_open_the_door(tmp_path: Path) -> None:
    settings = key_file(tmp_path, f"# ours\n\nalice {digest_of('sk-file').hex()}\n")
    keys = load_keys(settings.model_copy(update={"keys": AuthSettings(keys=("sk-env",)).keys}))

    alice, own = keys.find("Bearer sk-file"), keys.find("sk-env")
    assert alice is not None
    assert own is not None
    assert (alice.name, alice.scopes) == ("alice", {"speak"})
    assert (own.name, own.may("admin"), own.may("voices")) == ("key1", True, True)


def test_without_keys_everybody_is_nobody() -> None:
    assert load_keys(AuthSettings()).find(None) is None


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/audio/speech", "speak"),
        ("WEBSOCKET", "/v1/audio/dialogue/stream", "speak"),
        ("POST", "/tts", "speak"),
        ("POST", "/api/v1/tts/synthesize_file", "speak"),
        ("GET", "/v1/models", None),
        ("POST", "/v1/audio/voices", "voices"),
        ("DELETE", "/v1/audio/voices/ann", "voices"),
        ("POST", "/api/v1/voices/upload", "voices"),
        ("GET", "/api/v1/voices", None),
    ],
)
def test_each_route_asks_for_its_scope(method: str, path: str, scope: str | None) -> None:
    assert is_keyed(path)
    assert scope_of(path, method) == scope


def visitor(name: str, **limits: Any) -> Visitor:
    return Visitor(name=name, **limits)


def test_a_bucket_gives_a_burst_and_then_one_request_per_period() -> None:
    now = [0.0]
    settings = RateLimitSettings(enabled=True, requests_per_minute=60, burst_size=3)
    limiter = RateLimiter(settings, lambda: now[0])
    for _ in range(3):
        limiter.take(visitor("alice"))
    with pytest.raises(RateLimitError) as caught:
        limiter.take(visitor("alice"))
    assert caught.value.retry_after_s == pytest.approx(1.0)
    limiter.take(visitor("bob"))
    now[0] = 1.0
    limiter.take(visitor("alice"))
    with pytest.raises(RateLimitError):
        limiter.take(visitor("alice"))
    now[0] = 1000.0
    for _ in range(3):
        limiter.take(visitor("alice"))
    with pytest.raises(RateLimitError):
        limiter.take(visitor("alice"))


def test_the_limits_of_a_key_win_over_those_of_the_settings() -> None:
    limiter = RateLimiter(RateLimitSettings(enabled=False, burst_size=1), lambda: 0.0)
    alice = visitor("alice", requests_per_minute=6.0, burst_size=2)
    for _ in range(2):
        limiter.take(alice)
    with pytest.raises(RateLimitError, match="more than 6 requests") as caught:
        limiter.take(alice)
    assert caught.value.retry_after_s == pytest.approx(10.0)
    for _ in range(9):
        limiter.take(visitor("bob"))


def test_callers_without_number_take_no_memory_without_end() -> None:
    limiter = RateLimiter(RateLimitSettings(enabled=True), lambda: 0.0)
    for i in range(MAX_CALLERS + 10):
        limiter.take(visitor(str(i)))
    assert len(limiter._buckets) == MAX_CALLERS


def test_a_limiter_that_is_off_counts_nothing() -> None:
    limiter = RateLimiter(RateLimitSettings(burst_size=1))
    for _ in range(100):
        limiter.take(visitor("alice"))


def test_admission_refuses_one_too_many_and_gives_places_back() -> None:
    admission = Admission(1)
    with admission.admitted():
        with pytest.raises(CapacityError, match="all 1 streams"), admission.admitted():
            pass
        assert admission.num_running == 1
    assert admission.num_running == 0
    admission.is_draining = True
    with pytest.raises(CapacityError, match="about to stop"), admission.admitted():
        pass


def test_one_caller_cannot_take_all_places() -> None:
    admission = Admission(9, max_streams_per_caller=2)
    alice, bob = visitor("alice"), visitor("bob", max_streams=1)
    with admission.admitted(alice), admission.admitted(alice), admission.admitted(bob):
        for who, limit in ((alice, 2), (bob, 1)):
            refused = pytest.raises(RateLimitError, match=f"{limit} streams at a time")
            with refused, admission.admitted(who):
                pass
        with admission.admitted(visitor("carol")):
            assert admission.num_running == 4
    with admission.admitted(bob):
        pass
    assert not admission._by_caller


def all_errors() -> list[type[DuologueError]]:
    named = [*vars(client_errors).values(), *vars(faults).values()]
    return sorted(
        {kind for kind in named if isinstance(kind, type) and issubclass(kind, DuologueError)}
        - {DuologueError},
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_has_a_status_of_its_own_and_a_whole_body(kind: type[DuologueError]) -> None:
    extra: tuple[object, ...] = {"UnsupportedError": ("emotion",), "RateLimitError": (2.5,)}.get(
        kind.__name__, ()
    )
    fault = fault_of(kind("told 127.0.0.1:8001", *extra))

    assert fault.code != "internal_error"
    assert 400 <= fault.status < 600
    assert set(fault.body["error"]) == {"message", "type", "param", "code"}
    if fault.status in (429, 503):
        assert int(fault.headers["Retry-After"]) >= 1
    if kind.__name__ in ("ServerUnavailableError", "EngineError", "StreamTimeoutError"):
        assert "8001" not in fault.body["error"]["message"]


def test_an_error_of_no_type_says_nothing_of_itself() -> None:
    fault = fault_of(RuntimeError("secret"))
    assert fault.status == 500
    assert "secret" not in str(fault.body)
