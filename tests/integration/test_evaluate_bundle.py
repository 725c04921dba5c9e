"""A bundle speaks and is measured; the embedded one is untrained where this is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from duologue.finetune.evaluate.run import EvaluationRun, evaluate

RATE_HZ = 16_000


def _references(folder: Path) -> None:
    rows = []
    generator = np.random.default_rng(0)
    for number in range(2):
        name = f"test-{number}"
        samples = generator.normal(0, 0.1, RATE_HZ).astype(np.float32)
        soundfile.write(folder / f"{name}.wav", samples, RATE_HZ)
        borders = ((1, 0.0, 0.5), (2, 0.5, 1.0))
        turns = [{"speaker": s, "text": "a", "start_s": a, "end_s": b} for s, a, b in borders]
        rows.append(
            {
                "id": name,
                "file_path": f"{name}.wav",
                "full_transcript": "[S1]a[S2]b",
                "voices": ["s1", "s2"],
                "turns": turns,
            }
        )
    (folder / "dialogues.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_a_bundle_speaks_is_measured_and_does_not_speak_twice(tmp_path: Path) -> None:
    _references(tmp_path)
    run = EvaluationRun("noise", tmp_path, tmp_path / "out", prefix="test-", greedy=True)
    spoken: list[tuple[int, int]] = []
    first = evaluate(run, lambda *now: spoken.append(now))
    assert spoken == [(1, 2), (2, 2)]
    assert first.num_dialogues == 2
    assert first.num_borders > 0
    assert (tmp_path / "out" / "spectra.png").is_file()
    assert "| dialogues | 2 |" in (tmp_path / "out" / "measures.md").read_text()
    again = evaluate(run, lambda *now: spoken.append(now))
    assert again == first
    assert len(spoken) == 2
