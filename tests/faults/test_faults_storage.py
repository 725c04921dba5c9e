"""F08, F09, F10: a full disk, a crash at every step of a write, a locked or damaged database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Judge
from live_serve import LiveServe, serving
from test_faults_requests import upload, wav_bytes

from duologue.runtime.voice_store.store import VoiceStore

DISK_MB = 8


def spoken(server: LiveServe) -> bool:
    return server.speak("[S1]Hi.", max_new_tokens=10).status == 200


def voices(server: LiveServe) -> list[str]:
    listed: list[str] = server.call("/v1/audio/voices").json["voices"]
    return listed


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass


def test_f08_a_full_disk(
    needs_triton: None, needs_mounts: None, judge: Judge, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_MB}m tmpfs {disk} && exec "$@"'
    settings = {
        "storage": {"voice_samples_dir": str(disk / "voices"), "cache_dir": str(disk / "results")},
        "logging": {"file": str(disk / "log"), "level": "DEBUG"},
        "cache": {"enabled": True},
    }
    prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    with serving(tmp_path / "serve", settings=settings, prefix=prefix) as server:
        inside = Path(f"/proc/{server.pid}/root{disk}")
        assert upload(server, "before", wav_bytes()) == 201
        filler = inside / "filler"
        fill(filler)
        status = upload(server, "refused", wav_bytes(20))
        judge("F08", "adding a voice: 507", str(status), status == 507)
        listed = voices(server)
        judge("F08", "no half voice is listed", f"{listed[:2]}", "refused" not in listed)
        cached = server.talk(input="[S1]Hi.", seed=1, max_new_tokens=10).status
        holds = spoken(server) and cached == 200
        judge("F08", "speech goes on, log and cache full", str(cached), holds)
        filler.unlink()
        status = upload(server, "after", wav_bytes())
        judge("F08", "room again: it works without restart", str(status), status == 201)


ADD = """
import os, signal, sys
from pathlib import Path
import numpy as np
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import VoiceDetails
from duologue.runtime.voices import ReferenceAudio

left = int(sys.argv[2])

def dying(step):
    def run(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return step(*args, **kwargs)
    return run

store = VoiceStore(Path(sys.argv[1]))
for name in ("fsync", "replace"):
    setattr(os, name, dying(getattr(os, name)))
audio = np.sin(np.arange(72_000) / 20).astype(np.float32) * (0.3 + 0.01 * int(sys.argv[2]))
store.add(f"v{sys.argv[2]}", ReferenceAudio(audio, 24_000, ""), VoiceDetails(transcript="Hm."))
print("added")
"""


@pytest.mark.short
def test_f09_a_crash_at_every_step_of_a_write(judge: Judge, tmp_path: Path) -> None:
    crashes, orphans, broken = 0, 0, 0
    for step in range(20):
        command = [sys.executable, "-c", ADD, str(tmp_path), str(step)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        with VoiceStore(tmp_path) as store:
            listed = store.list()
            for voice in listed:
                broken += len(store.audio(voice).samples) == 0
            files = [path for path in (tmp_path / "audio").rglob("*") if path.is_file()]
            orphans += len(files) - len({voice.audio_sha256 for voice in listed})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        crashes += 1
    judge("F09", "a crash at each fsync and rename", f"{crashes} crashes", crashes >= 3)
    judge("F09", "no file without a row", f"{orphans}", orphans == 0)
    judge("F09", "no row without its file", f"{broken}", broken == 0)


def test_f10_a_locked_and_a_damaged_database(
    needs_triton: None, judge: Judge, tmp_path: Path
) -> None:
    settings = {"cache": {"enabled": True}}
    with serving(tmp_path, settings=settings) as server:
        assert upload(server, "kept", wav_bytes()) == 201
        database = tmp_path / "data" / "duologue" / "voices" / "voices.db"
        lock = sqlite3.connect(database, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        status = upload(server, "waits", wav_bytes())
        took_s = time.monotonic() - start
        judge("F10", "locked: adding is refused", f"{status}, {took_s:.0f} s", status == 503)
        reads = "kept" in voices(server) and spoken(server)
        judge("F10", "locked: reading and speaking go on", str(reads), reads)
        lock.execute("ROLLBACK")
        lock.close()
        status = upload(server, "waits", wav_bytes())
        judge("F10", "unlocked: it works without restart", str(status), status == 201)
        for path in (database, *database.parent.glob("voices.db-*")):
            with path.open("r+b") as file:
                file.write(os.urandom(4096))
        for path in (tmp_path / "cache").rglob("cache.db*"):
            path.write_bytes(os.urandom(8192))
        answer = server.call("/v1/audio/voices")
        judge("F10", "damaged: told as such", str(answer.status), answer.status in (200, 503))
        speech = server.talk(input="[S1]Hi.", seed=1, max_new_tokens=10).status
        judge("F10", "damaged: speaking goes on without them", str(speech), speech == 200)
        alarm = any("store cannot be used" in line for line in server.lines)
        judge("F10", "damaged: an alarm in the log", str(alarm), alarm or answer.status == 200)
