"""The voice store: what goes in comes out, for several processes, within limits."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sounds import noise, reference

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_store.store import DATABASE_FILE, VoiceStore
from duologue.runtime.voice_store.types import (
    NameTakenError,
    NoSuchVoiceError,
    StoreFullError,
    StoreUnavailableError,
    VoiceDetails,
)
from duologue.runtime.voices import ReferenceAudio

CODEC = "0" * 32
CODES = np.arange(24).reshape(8, 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoiceStore]:
    with VoiceStore(tmp_path / "store") as opened:
        yield opened


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "voices.db" not in path.name]


def test_a_voice_comes_back_as_it_was_added(store: VoiceStore, tmp_path: Path) -> None:
    audio = reference(rate_hz=22_050)
    details = VoiceDetails("你好。", "zh", "soft", "stated")

    added = store.add("女性温柔", audio, details)

    with VoiceStore(tmp_path / "store") as other:
        found = other.get("女性温柔")
        read = other.audio(found)
    assert found == added
    assert (found.details, found.version, found.duration_s) == (details, 1, 2.0)
    np.testing.assert_array_equal(read.samples, audio.samples)
    assert (read.sample_rate_hz, read.transcript) == (22_050, "你好。")


def test_stereo_is_kept_as_mono(store: VoiceStore) -> None:
    left, right = noise(seed=1), noise(seed=2)
    added = store.add("a", ReferenceAudio(np.stack([left, right], axis=1), 24_000), VoiceDetails())
    np.testing.assert_allclose(store.audio(added).samples, (left + right) / 2, atol=1e-7)


def test_a_name_is_taken_until_it_is_replaced(store: VoiceStore, tmp_path: Path) -> None:
    store.add("a", reference(seed=1), VoiceDetails("one"))
    with pytest.raises(NameTakenError):
        store.add("a", reference(seed=2), VoiceDetails("two"))

    replaced = store.add("a", reference(seed=2), VoiceDetails("two"), replace=True)

    assert replaced.version == 2
    assert [voice.details.transcript for voice in store.list()] == ["two"]
    assert len(files(tmp_path)) == 1


def test_the_same_audio_is_kept_once_and_as_long_as_a_voice_has_it(
    store: VoiceStore, tmp_path: Path
) -> None:
    store.add("a", reference(), VoiceDetails())
    store.add("b", reference(), VoiceDetails("other words"))
    assert len(files(tmp_path)) == 1

    store.remove("a")
    assert len(store.audio(store.get("b")).samples) == 32_000
    store.remove("b")
    assert files(tmp_path) == []


def test_unknown_voices_are_told_of_by_name(store: VoiceStore) -> None:
    for ask in (store.get, store.remove):
        with pytest.raises(NoSuchVoiceError, match="no voice 'bob'"):
            ask("bob")


def test_codes_are_kept_per_codec_and_go_with_their_voice(
    store: VoiceStore, tmp_path: Path
) -> None:
    voice = store.add("a", reference(), VoiceDetails())
    assert store.codes(voice, CODEC) is None
    store.keep_codes(voice, CODEC, CODES)

    kept = store.codes(voice, CODEC)
    assert kept is not None
    np.testing.assert_array_equal(kept, CODES)
    assert store.codes(voice, "1" * 32) is None

    store.remove("a")
    store.keep_codes(voice, CODEC, CODES)
    assert store.codes(voice, CODEC) is None
    assert files(tmp_path) == []


def test_codes_that_were_used_longest_ago_make_room_and_voices_never_do(tmp_path: Path) -> None:
    with VoiceStore(tmp_path / "store", max_codes_bytes=300) as store:
        voices = [
            store.add(name, reference(seed=i), VoiceDetails()) for i, name in enumerate("abc")
        ]
        for voice in voices[:2]:
            store.keep_codes(voice, CODEC, CODES)
        assert store.codes(voices[0], CODEC) is not None  # used again, so "b" is the oldest
        store.keep_codes(voices[2], CODEC, CODES)

        assert [store.codes(voice, CODEC) is not None for voice in voices] == [True, False, True]
        assert len(store.list()) == 3
        assert len(list((tmp_path / "store/codes").rglob("*.safetensors"))) == 2


def test_codes_that_are_damaged_are_made_again(store: VoiceStore, tmp_path: Path) -> None:
    voice = store.add("a", reference(), VoiceDetails())
    store.keep_codes(voice, CODEC, CODES)
    (path,) = (tmp_path / "store/codes").rglob("*.safetensors")
    path.write_bytes(b"junk")
    assert store.codes(voice, CODEC) is None


def test_audio_that_is_damaged_is_told_of(store: VoiceStore, tmp_path: Path) -> None:
    voice = store.add("a", reference(), VoiceDetails())
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VoiceError, match="damaged"):
        store.audio(voice)
    path.unlink()
    with pytest.raises(VoiceError, match="gone"):
        store.audio(voice)


def test_a_full_store_takes_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    with VoiceStore(tmp_path / "store", max_audio_bytes=200_000) as store:
        store.add("a", reference(), VoiceDetails())
        with pytest.raises(StoreFullError, match="allowed: 200000"):
            store.add("b", reference(seed=1), VoiceDetails())
        with pytest.raises(StoreFullError):
            store.add("a", reference(3.5, seed=1), VoiceDetails(), replace=True)
        assert [voice.version for voice in store.list()] == [1]
        assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"transcript": "x" * 5000}, "5000 characters"),
        ({"transcript": "a\x1b[31m"}, "control characters"),
        ({"description": "\ud800"}, "control characters"),
        ({"language": "../zh"}, "allowed: a tag"),
        ({"consent": "maybe"}, "allowed: 'stated'"),
    ],
)
def test_what_cannot_be_said_of_a_voice_is_refused(said: dict, told: str) -> None:
    with pytest.raises(VoiceError, match=told):
        VoiceDetails(**said)


def test_a_bad_name_leaves_nothing_behind(store: VoiceStore, tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="cannot be used"):
        store.add("../../x", reference(), VoiceDetails())
    assert files(tmp_path) == []


def test_another_kind_of_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        VoiceStore(tmp_path)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    VoiceStore(tmp_path).close()
    connection = sqlite3.connect(tmp_path / DATABASE_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailableError, match="version 99; allowed: 1"):
        VoiceStore(tmp_path)


def test_a_lock_that_stays_is_told_of_while_reading_goes_on(tmp_path: Path) -> None:
    with VoiceStore(tmp_path, busy_timeout_s=0.05) as store:
        store.add("a", reference(), VoiceDetails())
        holder = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.add("b", reference(seed=1), VoiceDetails())
            assert store.get("a").name == "a"
        finally:
            holder.close()
        store.add("b", reference(seed=1), VoiceDetails())


def test_opening_waits_for_nobody(tmp_path: Path) -> None:
    with VoiceStore(tmp_path) as store:
        store.add("a", reference(), VoiceDetails())
    holder = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with VoiceStore(tmp_path, busy_timeout_s=3600) as store:
            assert store.get("a").name == "a"
    finally:
        holder.close()


ADD_FIVE = """
import sys
from pathlib import Path
from sounds import reference
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import VoiceDetails
folder, who = Path(sys.argv[1]), int(sys.argv[2])
for i in range(5):
    with VoiceStore(folder) as store:
        store.add(f"v{who}x{i}", reference(1.0, seed=10 * who + i), VoiceDetails())
        store.add(f"gone{who}", reference(1.0, seed=99), VoiceDetails())
        store.remove(f"gone{who}")
"""


@pytest.mark.slow
def test_several_processes_share_a_store(tmp_path: Path) -> None:
    support = Path(__file__).parents[3] / "support"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD_FIVE, str(tmp_path / "store"), str(who)],
            env={"PYTHONPATH": str(support), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for who in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    with VoiceStore(tmp_path / "store") as store:
        voices = store.list()
        assert len(voices) == 15
        assert all(len(store.audio(voice).samples) == 16_000 for voice in voices)
    assert len(files(tmp_path)) == 15


def test_threads_share_a_store(store: VoiceStore) -> None:
    def add(i: int) -> None:
        store.add(f"v{i}", reference(1.0, seed=i), VoiceDetails())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert len(store.list()) == 12
