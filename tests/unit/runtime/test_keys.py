from __future__ import annotations

import os
from pathlib import Path

import pytest

from duologue.runtime.errors import AccessError, ConfigError
from duologue.runtime.keys import SCOPES, Key, KeyRing, digest_of, make_key, read_keys

DIGEST = digest_of("sk-file").hex()


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer sk-FILE", "Basic x"])
def test_any_other_header_does_not_open(header: str | None) -> None:
    keys = KeyRing([Key("alice", digest_of("sk-file"))])
    with pytest.raises(AccessError):
        keys.find(header)


@pytest.mark.parametrize("header", ["Bearer sk-file", "bearer  sk-file ", "sk-file"])
def test_the_key_opens_with_and_without_its_scheme(header: str) -> None:
    key = KeyRing([Key("alice", digest_of("sk-file"))]).find(header)
    assert key is not None
    assert key.name == "alice"


def write(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.write_text(text)
    return path


def test_a_line_may_carry_scopes_and_limits(tmp_path: Path) -> None:
    path = write(tmp_path, f"alice {DIGEST} scopes=speak,voices rpm=60 burst=10 streams=4\n")
    (alice,) = read_keys(path)
    assert alice.scopes == {"speak", "voices"}
    assert (alice.requests_per_minute, alice.burst_size, alice.max_streams) == (60, 10, 4)
    assert not alice.may("admin")
    assert alice.as_line() in path.read_text()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("alice sk-not-hashed", "line 1 is no key"),
        (f"a/b {DIGEST}", "line 1 is no key"),
        (f"alice {DIGEST} scopes=sing", "scopes=speak,voices,admin"),
        (f"alice {DIGEST} rpm=0", "numbers above 0"),
        (f"alice {DIGEST} rpm=nan", "numbers above 0"),
        (f"alice {DIGEST} streams=1.5", "numbers above 0"),
        (f"alice {DIGEST} sk-not-hashed", "behind the hash"),
        ("\n", "holds no key"),
    ],
)
def test_a_line_that_is_no_key_is_refused_without_being_shown(
    tmp_path: Path, line: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        KeyRing(path=write(tmp_path, line))
    assert "sk-not-hashed" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyRing(path=tmp_path / "none")


def test_a_key_that_was_taken_out_is_refused_at_the_next_look(tmp_path: Path) -> None:
    path = write(tmp_path, f"alice {DIGEST}\nbob {digest_of('sk-bob').hex()}\n")
    told: list[str] = []
    keys = KeyRing(path=path, on_fault=told.append)
    assert keys.find("sk-bob")
    write(tmp_path, f"alice {DIGEST}\n")
    assert keys.find("sk-bob"), "nothing was looked at"
    keys.refresh()
    with pytest.raises(AccessError):
        keys.find("sk-bob")
    assert keys.find("sk-file")
    path.write_text("no key at all")
    os.utime(path, (1, 1))
    keys.refresh()
    with pytest.raises(AccessError):
        keys.find("sk-file")
    assert "line 1 is no key" in told[0]
    path.unlink()
    keys.refresh()
    with pytest.raises(AccessError):
        keys.find("sk-file")
    assert keys.has_file
    assert not keys.is_empty


def test_a_new_key_is_long_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    secret, key = make_key("bob", scopes=frozenset(SCOPES), max_streams=2)
    other, _ = make_key("bob")
    assert len(secret) > 50
    assert secret != other
    assert secret not in key.as_line()
    assert secret not in repr(key)
    found = KeyRing(path=write(tmp_path, key.as_line())).find(secret)
    assert found == key
    with pytest.raises(ConfigError):
        make_key("no name")
    with pytest.raises(ConfigError):
        make_key("bob", max_streams=-1)
