from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from duologue.finetune.errors import DataError
from duologue.finetune.evaluate.measures import Generated, Rendering, fit_speakers, measure
from duologue.finetune.evaluate.renderings import (
    read_generated,
    read_renderings,
    write_generated,
)
from duologue.finetune.evaluate.report import plot_spectra, write_report
from duologue.runtime.core import FloatArray, TurnTime

RATE_HZ = 16_000
PITCHES = {"s1": 100.0, "s2": 210.0}


def _voice(name: str, seed: int) -> FloatArray:
    """Vowels of a voice: its harmonics under formants that move."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(0.2 * RATE_HZ)) / RATE_HZ
    vowels = []
    for formant_hz in generator.uniform(400, 2800, 5):
        pitch = PITCHES[name]
        harmonics = np.arange(1, int(3000 / pitch))[:, None]
        loudness = np.exp(-np.square((harmonics * pitch - formant_hz) / 400))
        vowels.append((loudness * np.sin(2 * np.pi * harmonics * pitch * time_s)).sum(axis=0))
    return (0.1 * np.concatenate(vowels)).astype(np.float32)


def _dialogue(number: int) -> Rendering:
    first, second = _voice("s1", 2 * number), _voice("s2", 2 * number + 1)
    turns = (TurnTime(1, 0.0, 1.0), TurnTime(2, 1.0, 2.0))
    samples = np.concatenate([first, second])
    return Rendering(f"test-{number}", "[S1]a[S2]b", samples, RATE_HZ, turns, ("s1", "s2"))


REFERENCES = [_dialogue(number) for number in range(5)]


def _perfect() -> list[Generated]:
    return [Generated(0.7 * r.samples, RATE_HZ, False, (0, 9000)) for r in REFERENCES]


def test_a_perfect_model_has_perfect_measures() -> None:
    measures = measure(REFERENCES, _perfect(), fit_speakers(REFERENCES))
    assert (measures.share_identified, measures.share_right_speaker) == (1.0, 1.0)
    assert (measures.share_runaway, measures.share_early, measures.num_clicks) == (0, 0, 0)
    assert measures.duration_ratios == (1.0, 1.0, 1.0)
    assert measures.num_borders == 5
    assert measures.confused == ()


def test_every_fault_is_counted() -> None:
    generated = _perfect()
    generated[0] = generated[1]
    swapped = np.concatenate([_voice("s2", 4), _voice("s1", 5)])
    generated[2] = Generated(swapped, RATE_HZ, is_runaway=True)
    generated[3] = Generated(REFERENCES[3].samples[:8000], RATE_HZ)
    measures = measure(REFERENCES, generated, fit_speakers(REFERENCES))
    assert ("test-0", "test-1") in measures.confused
    assert measures.share_runaway == pytest.approx(0.2)
    assert measures.share_early == pytest.approx(0.2)
    assert measures.share_right_speaker < 1


def test_the_report_can_be_read_and_seen(tmp_path: Path) -> None:
    measures = measure(REFERENCES, _perfect(), fit_speakers(REFERENCES))
    table = write_report(tmp_path, measures)
    assert "| identified by DTW, out of all | 100.0% |" in table
    read = json.loads((tmp_path / "measures.json").read_text())
    assert set(read) == {field.name for field in dataclasses.fields(measures)}
    plot_spectra(REFERENCES[:2], _perfect()[:2], tmp_path / "spectra.png")
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")


def test_dialogues_and_speech_come_back_from_their_folders(tmp_path: Path) -> None:
    speech = Generated(REFERENCES[0].samples, RATE_HZ, True, (0, 100))
    write_generated(tmp_path, "test-0", speech)
    (again,) = read_generated(tmp_path, ["test-0"])
    assert (again.is_runaway, again.chunk_starts) == (True, (0, 100))
    assert np.abs(again.samples - speech.samples).max() < 1e-4
    row = {
        "id": "test-0",
        "file_path": "test-0.wav",
        "full_transcript": "[S1]a",
        "voices": ["s1", "s2"],
        "turns": [{"speaker": 1, "text": "a", "start_s": 0.1, "end_s": 0.9}],
    }
    index = tmp_path / "dialogues.jsonl"
    index.write_text(json.dumps(row) + "\n")
    (rendering,) = read_renderings(tmp_path, "test-")
    assert rendering.turns == (TurnTime(1, 0.1, 0.9),)
    with pytest.raises(DataError, match="no dialogue whose id begins with 'train-'"):
        read_renderings(tmp_path, "train-")
    assert len(read_renderings(tmp_path, "test-", voices=("s1", "s2"))) == 1
    with pytest.raises(DataError, match="in these voices"):
        read_renderings(tmp_path, "test-", voices=("s2", "s1"))
    index.write_text('{"id": "test-0"}\n')
    with pytest.raises(DataError, match="is damaged"):
        read_renderings(tmp_path)
    with pytest.raises(DataError, match=r"has no dialogues\.jsonl"):
        read_renderings(tmp_path / "none")
