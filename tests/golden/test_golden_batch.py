"""`duologue build` and `duologue batch` against a plain second writing of the reference.

The language model is the recorded one; the codec is made to fit its 64 codes. The other side is
`reference_loop`: a left-padded batch on one counter, without cache, in torch and transformers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from golden_lm import DATA
from reference_loop import Item, PlainModel
from typer.testing import CliRunner

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.cli.main import app

CODEC = RandomCodecSizes(codebook_size=64, d_model=16, ffn_dim=24, vocos_dim=16)
RATE_HZ = 16_000
WAVE_TOLERANCE = 1e-4
TRANSCRIPT = "[S1]Ref 1.[S2]Two."
LINES: list[dict[str, Any]] = [
    {"text": "[S1] Hi there. [S2] Hello, you! "},
    {
        "text": "[S1]Why not 7 it is.\n[S2]Yes.",
        "prompt_audio": "both.wav",
        "prompt_text": TRANSCRIPT,
    },
    {
        "text": "[S1]你好。[S2]嗯，好的。",
        "prompt_audio_speaker1": "first.wav",
        "prompt_text_speaker1": " Ref one.",
        "prompt_audio_speaker2": "second.wav",
        "prompt_text_speaker2": "Ref two.",
    },
]


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, the bundle built from them, recordings and a batch file."""
    folder = tmp_path_factory.mktemp("end_to_end")
    shutil.copytree(DATA, folder / "lm", ignore=shutil.ignore_patterns("golden"))
    write_random_codec(folder / "codec", seed=5, sizes=CODEC)
    places = ["--lm", folder / "lm", "--codec", folder / "codec", "--out", folder / "bundle"]
    options = ["--dtype", "fp32", "--no-parity"]
    built = CliRunner().invoke(app, ["build", *map(str, places), *options])
    assert built.exit_code == 0, built.output
    for name, seed, seconds in (("both", 1, 0.65), ("first", 2, 1.3), ("second", 4, 0.9)):
        soundfile.write(folder / f"{name}.wav", _voice(seed, seconds), RATE_HZ, "FLOAT")
    lines = [json.dumps({"base_path": str(folder), **line}) for line in LINES]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _voice(seed: int, seconds: float) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 + 50 * seed) * time_s * (1 + 0.1 * np.sin(time_s)))
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.2 * tone + 0.05 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def wanted(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    both, first, second = (
        torch.from_numpy(soundfile.read(folder / f"{name}.wav", dtype="float32")[0])
        for name in ("both", "first", "second")
    )
    items = [
        Item(LINES[0]["text"]),
        Item(TRANSCRIPT + LINES[1]["text"], both),
        Item("[S1] Ref one.[S2]Ref two." + LINES[2]["text"], torch.cat([first, second])),
    ]
    return PlainModel(folder / "lm", folder / "codec").speak(items)


def _batch(folder: Path, out: str, *options: str) -> list[tuple[np.ndarray, np.ndarray]]:
    places = ["--bundle", folder / "bundle", "--jsonl", folder / "in.jsonl"]
    places += ["--output-dir", folder / out]
    command = ["batch", *map(str, places), "--greedy", "--save-codes", *options]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    return [
        (
            np.load(folder / out / f"output_{index}.codes.npy"),
            soundfile.read(folder / out / f"output_{index}.wav", dtype="float32")[0],
        )
        for index in range(len(LINES))
    ]


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_batch_speaks_the_reference_s_codes_and_samples(
    folder: Path, wanted: list[tuple[np.ndarray, np.ndarray]], engine: str
) -> None:
    made = _batch(folder, f"out_{engine}", "--engine", engine, "--decode", "reference")
    assert [len(codes) for codes, _ in wanted] == [13, 108, 20]
    for (codes, samples), (wanted_codes, wanted_samples) in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(codes, wanted_codes)
        assert len(samples) == len(wanted_samples)
        assert np.abs(samples).max() > 0.05
        np.testing.assert_allclose(samples, wanted_samples, rtol=0, atol=WAVE_TOLERANCE)
    # The seam that has no margin: 108 frames are in the case for it.
    assert len(made[1][1]) == 108 * 1920 - 2400


def test_other_windows_change_the_audio_and_not_the_codes(
    folder: Path, wanted: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    for (codes, samples), (wanted_codes, _) in zip(_batch(folder, "out"), wanted, strict=True):
        np.testing.assert_array_equal(codes, wanted_codes)
        assert len(samples) == len(codes) * 1920


def test_the_text_rules_are_those_of_the_reference_on_the_joined_text(folder: Path) -> None:
    """Neighbouring parts of a speaker are merged across the border of transcript and script."""
    line = {
        "base_path": str(folder),
        "text": "Well；yes，[S1]And 哈哈 so, ",
        "prompt_audio": "both.wav",
        "prompt_text": "[S2]Two ",
    }
    (folder / "rules.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    voice = torch.from_numpy(soundfile.read(folder / "both.wav", dtype="float32")[0])
    normalized = Item("[S2]Two Well，yes。[S1]And [笑] so.", voice)
    ((codes, _),) = PlainModel(folder / "lm", folder / "codec").speak([normalized])
    places = ["--bundle", folder / "bundle", "--jsonl", folder / "rules.jsonl"]
    places += ["--output-dir", folder / "out_rules"]
    command = ["batch", *map(str, places), "--greedy", "--save-codes", "--use-normalize"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    np.testing.assert_array_equal(np.load(folder / "out_rules" / "output_0.codes.npy"), codes)
