# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

from duologue.finetune.speech_data import espeak, maker
from duologue.finetune.speech_data.dialogues import PlannedDialogue, PlannedTurn
from duologue.finetune.speech_data.voices import DEFAULT_VOICES, EspeakVoice
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineUnavailableError

RATE_HZ = espeak.ESPEAK_RATE_HZ


class CountingSentences:
    """Says numbers."""

    def sentence(self, random: Random) -> str:
        return f"This is {random.randint(0, 999)}."

    def question(self, random: Random) -> str:
        return f"Is it {random.randint(0, 999)}?"

    def reply(self, random: Random) -> str:
        return "Yes."


def say_a_tone(text: str, voice: EspeakVoice) -> FloatArray:
    """As long as the text, as high as the voice."""
    time_s = np.arange(len(text) * RATE_HZ // 20) / RATE_HZ
    tone: FloatArray = (0.3 * np.sin(2 * np.pi * 5 * voice.pitch * time_s)).astype(np.float32)
    return tone


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> maker.DataPlan:
    monkeypatch.setattr(maker, "sentence_maker", lambda language, split: CountingSentences())
    (tmp_path / "audio").mkdir()
    return maker.DataPlan(tmp_path, num_dialogues=7, block_size=3, sample_rate_hz=16_000)


def test_turn_borders_stand_where_the_sound_is() -> None:
    turns = (PlannedTurn(1, "hello there", 0.1), PlannedTurn(2, "yes", 0.3))
    dialogue = PlannedDialogue("d", "en", turns, DEFAULT_VOICES, tail_s=0.2)
    samples, rows = maker.speak_dialogue(dialogue, RATE_HZ, say_a_tone)
    assert [row["speaker"] for row in rows] == [1, 2]
    assert rows[0]["start_s"] == pytest.approx(0.1, abs=1e-3)
    assert rows[1]["start_s"] - rows[0]["end_s"] == pytest.approx(0.3, abs=2e-3)
    is_sound = np.zeros(len(samples), dtype=bool)
    for row in rows:
        is_sound[round(row["start_s"] * RATE_HZ) : round(row["end_s"] * RATE_HZ)] = True
    assert np.abs(samples[~is_sound]).max() < 0.02
    assert np.sqrt(np.mean(samples[is_sound] ** 2)) == pytest.approx(0.09, rel=0.02)


def test_blocks_cover_all_dialogues_and_repeat_exactly(plan: maker.DataPlan) -> None:
    rows = [
        row for block in range(plan.num_blocks) for row in maker.make_block(plan, block, say_a_tone)
    ]
    again = [
        row for block in range(plan.num_blocks) for row in maker.make_block(plan, block, say_a_tone)
    ]
    assert rows == again
    assert [row["id"] for row in rows] == [f"train-en-{index:06d}" for index in range(7)]
    for row in rows:
        info = soundfile.info(plan.directory / row["file_path"])
        assert info.samplerate == 16_000
        assert info.duration == pytest.approx(row["duration_s"], abs=1e-3)
        assert row["full_transcript"].startswith("[S")


def test_streamed_wav_is_read_whatever_size_it_announces() -> None:
    pcm = (np.arange(200) * 100).astype("<i2")
    header = bytearray(44)
    header[0:4], header[8:16], header[36:40] = b"RIFF", b"WAVEfmt ", b"data"
    header[16:36] = (
        (16).to_bytes(4, "little") + (1).to_bytes(2, "little") + (1).to_bytes(2, "little")
        + RATE_HZ.to_bytes(4, "little") + (2 * RATE_HZ).to_bytes(4, "little")
        + (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    )  # fmt: skip
    header[4:8] = header[40:44] = (0x7FFFFFFF).to_bytes(4, "little")
    samples = espeak._read_streamed_wav(bytes(header) + pcm.tobytes())
    np.testing.assert_array_equal(samples, pcm / 32768)
    assert len(espeak._read_streamed_wav(b"")) == 0


def test_silence_is_cut_at_both_ends_only() -> None:
    sound = np.concatenate(
        [np.zeros(5000), np.ones(10), np.zeros(3000), np.ones(10), np.zeros(9000)]
    )
    trimmed = espeak.trim_silence(sound.astype(np.float32))
    assert 3020 < len(trimmed) < 3020 + 0.03 * RATE_HZ


def test_missing_espeak_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineUnavailableError, match="apt-get install espeak-ng"):
        espeak.require_espeak()
