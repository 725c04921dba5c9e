"""Voices carried from store to store, and found in folders."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sounds import reference, wav

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_store.archive import MANIFEST, export_voices, read_archive
from duologue.runtime.voice_store.folder import find_voices
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import NoSuchVoiceError, VoiceDetails
from duologue.runtime.voices import read_reference


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoiceStore]:
    with VoiceStore(tmp_path / "store") as opened:
        details = VoiceDetails("你好", "zh", "soft", "stated")
        opened.add("女性温柔", reference(1.0), details, consent_at="2020-02-03T04:05:06+00:00")
        opened.add("Ann", reference(1.0, seed=1), VoiceDetails())
        yield opened


def test_a_voice_arrives_in_another_store_with_all_that_is_known(
    store: VoiceStore, tmp_path: Path
) -> None:
    export_voices(store, tmp_path / "voices.zip")

    with VoiceStore(tmp_path / "other") as other:
        for found in read_archive(tmp_path / "voices.zip"):
            other.add(found.name, found.read(), found.details, consent_at=found.consent_at)
        arrived = other.get("女性温柔")
        np.testing.assert_array_equal(other.audio(arrived).samples, reference(1.0).samples)
    assert arrived.details == VoiceDetails("你好", "zh", "soft", "stated")
    assert arrived.consent_at == "2020-02-03T04:05:06+00:00"


def test_the_same_voices_give_the_same_archive(store: VoiceStore, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        export_voices(store, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_only_what_is_asked_for_is_exported(store: VoiceStore, tmp_path: Path) -> None:
    assert [v.name for v in export_voices(store, tmp_path / "a.zip", ["Ann"])] == ["Ann"]
    assert [found.name for found in read_archive(tmp_path / "a.zip")] == ["Ann"]
    with pytest.raises(NoSuchVoiceError):
        export_voices(store, tmp_path / "b.zip", ["bob"])
    assert not (tmp_path / "b.zip").exists()


def _changed(store: VoiceStore, path: Path, **entry: object) -> None:
    """An archive whose record of Ann was tampered with."""
    export_voices(store, path.with_suffix(".good"), ["Ann"])
    with zipfile.ZipFile(path.with_suffix(".good")) as good, zipfile.ZipFile(path, "w") as bad:
        manifest = json.loads(good.read(MANIFEST))
        manifest["voices"][0].update(entry)
        bad.writestr(MANIFEST, json.dumps(manifest))
        for name in good.namelist():
            if name != MANIFEST:
                bad.writestr(name, good.read(name))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"audio_sha256": "../../../etc/passwd"}, "cannot be read as an archive"),
        ({"audio_sha256": "0" * 64}, "cannot be read as an archive"),
        ({"transcript": "\x1b"}, "control characters"),
        ({"transcript": 7}, "cannot be read as an archive"),
        ({"consent": "sure"}, "allowed: 'stated'"),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(
    store: VoiceStore, tmp_path: Path, entry: dict, told: str
) -> None:
    _changed(store, tmp_path / "bad.zip", **entry)
    with pytest.raises(VoiceError, match=told):
        list(read_archive(tmp_path / "bad.zip"))


def test_a_bad_name_or_time_in_an_archive_adds_nothing(store: VoiceStore, tmp_path: Path) -> None:
    _changed(store, tmp_path / "bad.zip", name="../x", consent_at="never")
    (found,) = read_archive(tmp_path / "bad.zip")
    with pytest.raises(VoiceError, match="cannot be used"):
        store.add(found.name, found.read(), found.details)
    with pytest.raises(VoiceError, match="ISO 8601"):
        store.add("x", found.read(), found.details, consent_at=found.consent_at)


def test_audio_that_was_changed_is_refused(store: VoiceStore, tmp_path: Path) -> None:
    export_voices(store, tmp_path / "good.zip", ["Ann"])
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        names = good.namelist()
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
            bad.writestr(names[0], good.read(names[0]))
            bad.writestr(names[1], good.read(names[1])[:-4] + b"abcd")
    with pytest.raises(VoiceError, match="damaged in the archive"):
        list(read_archive(tmp_path / "bad.zip"))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and nothing", b"x" * 1000])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "no.zip").write_bytes(data)
    with pytest.raises(VoiceError, match="cannot be read as an archive"):
        list(read_archive(tmp_path / "no.zip"))


@pytest.mark.slow
def test_a_bomb_in_an_archive_is_not_unpacked(store: VoiceStore, tmp_path: Path) -> None:
    export_voices(store, tmp_path / "good.zip", ["Ann"])
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        names, manifest = good.namelist(), good.read(MANIFEST)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr(MANIFEST, manifest)
        with bomb.open(names[1], "w") as file:
            for _ in range(110):
                file.write(bytes(1_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 200_000
    with pytest.raises(VoiceError, match="more than 100000000 bytes"):
        list(read_archive(tmp_path / "bomb.zip"))


@pytest.mark.parametrize("below", ["", "voices", "storage/voices"])
def test_a_folder_is_read_at_any_of_its_levels(tmp_path: Path, below: str) -> None:
    root = tmp_path / below
    (root / "carol").mkdir(parents=True)
    (root / "ann.wav").write_bytes(wav())
    (root / "ann.txt").write_text("Hello there.\n")
    (root / "bob.wav").write_bytes(wav(seed=1))
    (root / "bob.npy").write_bytes(b"a latent")
    (root / "carol" / "sample.wav").write_bytes(wav(seed=2))
    (root / "notes.md").write_text("no voice")

    found = list(find_voices(tmp_path, read_reference, "stated"))

    assert [voice.name for voice in found] == ["ann", "bob", "carol"]
    assert [voice.details.transcript for voice in found] == ["Hello there.", "", ""]
    assert [bool(voice.note) for voice in found] == [False, True, False]
    assert {voice.details.consent for voice in found} == {"stated"}
    assert found[0].read().transcript == "Hello there."
    assert all(len(voice.read().samples) == 48_000 for voice in found)


def test_a_folder_without_audio_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="holds no audio"):
        list(find_voices(tmp_path, read_reference))


def test_a_transcript_that_is_no_text_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "ann.wav").write_bytes(wav())
    (tmp_path / "ann.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VoiceError, match="cannot be read as a transcript"):
        list(find_voices(tmp_path, read_reference))


@pytest.mark.parametrize("kind", ["deep", "encrypted", "of an unknown packing"])
def test_an_archive_made_to_trouble_is_refused_like_any_other(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, "[" * 100_000)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    if kind == "encrypted":
        data[6] |= 1
        data[entry + 8] |= 1
    elif kind == "of an unknown packing":
        data[8] = data[entry + 10] = 77
    path.write_bytes(data)
    with pytest.raises(VoiceError, match="cannot be read as an archive"):
        list(read_archive(path))
