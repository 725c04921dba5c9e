# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import numpy as np
import pytest

from duologue.cli.player import PLAYERS, Playback, Player, find_player
from duologue.client.wav import wav_header

COPY_STDIN = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
COPY_FILE = "import sys, shutil; shutil.copy(sys.argv[2], sys.argv[1])"
SAMPLES = np.arange(1000, dtype=np.int16)


def player_of(code, target, takes):
    return Player(sys.executable, ("-c", code, str(target)), takes)


def test_first_known_player_on_path_is_taken():
    assert find_player(lambda name: "/x" if name in ("play", "aplay") else None).name == "aplay"
    assert find_player(lambda name: None) is None


def test_commands_know_the_sample_rate():
    commands = {player.name: player.command(24_000) for player in PLAYERS}
    assert commands["aplay"][-3:] == ["-r", "24000", "-"]
    assert "--rate=24000" in commands["paplay"]
    assert commands["afplay"] == ["afplay"]


@pytest.mark.parametrize(("takes", "header"), [("raw", b""), ("wav", wav_header(24_000, None))])
def test_streaming_player_gets_every_sample(tmp_path, takes, header):
    target = tmp_path / "heard"
    playback = Playback(player_of(COPY_STDIN, target, takes), 24_000)
    playback.put(SAMPLES[:300])
    playback.put(SAMPLES[300:])
    playback.finish(tmp_path / "unused")
    assert target.read_bytes() == header + SAMPLES.tobytes()


def test_file_player_gets_the_complete_file(tmp_path):
    source, target = tmp_path / "a.wav", tmp_path / "heard"
    source.write_bytes(b"RIFF")
    playback = Playback(player_of(COPY_FILE, target, "file"), 24_000)
    playback.put(SAMPLES)
    playback.finish(source)
    assert target.read_bytes() == b"RIFF"


def test_player_that_leaves_early_is_no_error(tmp_path):
    playback = Playback(player_of("raise SystemExit", tmp_path, "raw"), 24_000)
    for _ in range(100):
        playback.put(np.zeros(10_000, np.int16))
    playback.finish(tmp_path / "unused")
    playback.stop()


def test_stop_ends_a_player_that_still_plays(tmp_path):
    playback = Playback(player_of("import time; time.sleep(600)", tmp_path, "wav"), 24_000)
    for _ in range(100):
        playback.put(np.zeros(10_000, np.int16))  # more than a pipe holds: the feeder waits
    playback.stop()
    playback.stop()
