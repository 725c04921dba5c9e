from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from duologue.client import errors as client_errors
from duologue.client.errors import AccessError, CapacityError, DuologueError
from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway import faults
from duologue.runtime.gateway.faults import RateLimitError, fault_of
from duologue.runtime.gateway.keys import KeyRing, load_keys
from duologue.runtime.gateway.limits import MAX_CALLERS, Admission, RateLimiter
from duologue.runtime.gateway.setting_groups import AuthSettings, RateLimitSettings


def key_file(folder: Path, text: str) -> AuthSettings:
    path = folder / "keys"
    path.write_text(text)
    return AuthSettings(keys_file=path)


def test_keys_of_file_and_environment_open_the_door(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sk-file").hexdigest()
    settings = key_file(tmp_path, f"# ours\n\nalice {digest}\n")
    keys = load_keys(settings.model_copy(update={"keys": AuthSettings(keys=("sk-env",)).keys}))

    assert keys.name_of("Bearer sk-file") == "alice"
    assert keys.name_of("bearer  sk-env") == "key1"
    assert keys.name_of("sk-env") == "key1"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer sk-FILE", "Basic x"])
def test_any_other_header_does_not(header: str | None) -> None:
    keys = KeyRing({"alice": hashlib.sha256(b"sk-file").digest()})
    with pytest.raises(AccessError):
        keys.name_of(header)


def test_without_keys_everybody_is_nobody() -> None:
    assert load_keys(AuthSettings()).name_of(None) is None


def test_a_line_that_is_no_hash_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1 is no key") as caught:
        load_keys(key_file(tmp_path, "alice sk-not-hashed"))
    assert "sk-not-hashed" not in str(caught.value)
    with pytest.raises(ConfigError, match="holds no key"):
        load_keys(key_file(tmp_path, "\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keys(AuthSettings(keys_file=tmp_path / "none"))


def test_a_bucket_gives_a_burst_and_then_one_request_per_period() -> None:
    now = [0.0]
    settings = RateLimitSettings(enabled=True, requests_per_minute=60, burst_size=3)
    limiter = RateLimiter(settings, lambda: now[0])
    for _ in range(3):
        limiter.take("alice")
    with pytest.raises(RateLimitError) as caught:
        limiter.take("alice")
    assert caught.value.retry_after_s == pytest.approx(1.0)
    limiter.take("bob")
    now[0] = 1.0
    limiter.take("alice")
    with pytest.raises(RateLimitError):
        limiter.take("alice")
    now[0] = 1000.0
    for _ in range(3):
        limiter.take("alice")
    with pytest.raises(RateLimitError):
        limiter.take("alice")


def test_callers_without_number_take_no_memory_without_end() -> None:
    limiter = RateLimiter(RateLimitSettings(enabled=True), lambda: 0.0)
    for i in range(MAX_CALLERS + 10):
        limiter.take(str(i))
    assert len(limiter._buckets) == MAX_CALLERS


def test_a_limiter_that_is_off_counts_nothing() -> None:
    limiter = RateLimiter(RateLimitSettings(burst_size=1))
    for _ in range(100):
        limiter.take("alice")


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
