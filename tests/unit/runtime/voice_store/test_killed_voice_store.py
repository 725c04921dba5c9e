"""A process that is killed at any step leaves a store that can be read, and no litter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[3] / "support"

# A program of its own, because it forks: each child kills itself at its n-th step.
RUNNER = """
import json, os, shutil, signal, sys
from pathlib import Path

import numpy as np
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sounds import reference

from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import VoiceDetails

root = Path(sys.argv[1])
CODEC, CODES = "0" * 32, np.ones((8, 3), np.int64)


def prepare(folder):
    with VoiceStore(folder) as store:
        store.add("old", reference(1.0, seed=1), VoiceDetails("old words"))
        store.keep_codes(store.get("old"), CODEC, CODES)


def work(folder, steps):
    left = [steps]

    def step(name):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for name in ("fsync", "replace", "unlink"):
        def wrapped(*args, _real=getattr(os, name), _name=name, **kwargs):
            step(_name)
            return _real(*args, **kwargs)
        setattr(os, name, wrapped)
    event.listen(Engine, "begin", lambda connection: step("begin"))
    event.listen(Engine, "commit", lambda connection: step("commit"))
    with VoiceStore(folder) as store:
        store.add("new", reference(1.0, seed=2), VoiceDetails("new words"))
        store.keep_codes(store.get("new"), CODEC, CODES)
        store.add("old", reference(1.0, seed=3), VoiceDetails("changed"), replace=True)
        store.remove("new")


def look(folder):
    with VoiceStore(folder) as store:
        voices = {v.name: [v.details.transcript, v.version] for v in store.list()}
        for voice in store.list():
            assert len(store.audio(voice).samples) == 16_000
            codes = store.codes(voice, CODEC)
            assert codes is None or codes.shape == (8, 3)
        audio = {v.audio_sha256 for v in store.list()}
    files = {p.stem for p in (folder / "audio").rglob("*") if p.is_file()}
    assert files == audio, (files, audio)
    kept = {p.stem for p in (folder / "codes").rglob("*") if p.is_file()}
    assert kept <= audio, (kept, audio)
    return voices


prepare(root / "before")
seen = []
for steps in range(200):
    folder = root / str(steps)
    shutil.copytree(root / "before", folder)
    child = os.fork()
    if child == 0:
        try:
            work(folder, steps)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    seen.append(look(folder))
    if os.WIFEXITED(status):
        break
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_state_before_or_after_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(tmp_path)],
        env={"PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    order = [
        {"old": ["old words", 1]},
        {"old": ["old words", 1], "new": ["new words", 1]},
        {"old": ["changed", 2], "new": ["new words", 1]},
        {"old": ["changed", 2]},
    ]
    # Each state was seen, one after the other, and nothing else.
    stages = [order.index(state) for state in seen]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2, 3}
    assert len(seen) > 20
