"""Both engines give the logits that MOSS-TTSD v0.7 gave on the small golden checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from random_lms import build_lm, open_backbone, teacher_force

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray

DATA = Path(__file__).parent / "data" / "lm_scaled"
CASES = sorted(path.stem for path in (DATA / "golden").glob("*.npz"))
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """One sequence of a case: the delayed ids without left padding, and what was recorded."""

    ids: IntArray
    prompt_rows: int
    wanted: FloatArray


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("lm_scaled")
    return build_lm(DATA, directory), directory


@pytest.fixture(params=["torch", "onnx"])
def backbone(request: pytest.FixtureRequest, built: tuple[LmConfig, Path]) -> Iterator[Backbone]:
    engine = open_backbone(request.param, *built)
    yield engine
    engine.close()


def _rows(case: str) -> list[Row]:
    with np.load(DATA / "golden" / f"{case}.npz") as data:
        assert data["ch0_lo"] == 0
        base = int(data["base_length"])
        num_steps, batch = data["logits_ch0"].shape[:2]
        joined = np.concatenate(
            [data["logits_ch0"], data["logits_ch1_7"].reshape(num_steps, batch, -1)], axis=-1
        )
        pads = (data["attention_mask"] == 0).sum(axis=1).astype(int)
        # Behind row base + k - 1 stand the logits of step k.
        return [
            Row(data["sequences"][i, pad : base + num_steps - 1], base - pad, joined[:, i])
            for i, pad in enumerate(pads)
        ]


def _assert_close(got: FloatArray, wanted: FloatArray) -> None:
    """Equal where the recording is not masked, which is nearly everywhere."""
    finite = np.isfinite(wanted)
    assert finite.mean() > 0.97
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got[finite], wanted[finite], rtol=0, atol=TOLERANCE)


def test_the_recordings_are_there() -> None:
    assert len(CASES) == 7


@pytest.mark.parametrize("case", CASES)
def test_a_row_alone_gives_the_recorded_logits(backbone: Backbone, case: str) -> None:
    for row in _rows(case):
        _assert_close(teacher_force(backbone, 3, row.ids, row.prompt_rows, [64]), row.wanted)
        backbone.release(3)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("b1")])
def test_a_batch_gives_the_recorded_logits(backbone: Backbone, case: str) -> None:
    rows = _rows(case)
    slots = [4, 0, 2][: len(rows)]
    got = [
        [backbone.prefill(slot, row.ids[: row.prompt_rows])]
        for slot, row in zip(slots, rows, strict=True)
    ]
    for step in range(len(rows[0].wanted) - 1):
        ids = np.stack([row.ids[row.prompt_rows + step] for row in rows])
        logits = backbone.decode(slots, ids)
        for place, steps in enumerate(got):
            steps.append(type(logits)(logits.values[place : place + 1], logits.offsets))
    for row, steps in zip(rows, got, strict=True):
        values = [logits.values for logits in steps if logits is not None]
        _assert_close(np.concatenate(values), row.wanted)


def test_sequences_that_come_and_go_give_the_recorded_logits(backbone: Backbone) -> None:
    """Rows of several cases, each starting while others run, in slots that were used before."""
    waiting = [row for case in ("b3_prompt", "b3_mixed", "b1_prompt13") for row in _rows(case)]
    running: dict[int, tuple[Row, list[FloatArray]]] = {}
    num_finished = 0
    for step in range(1000):
        if waiting and len(running) < 5 and step % 7 == 0:
            row, slot = waiting.pop(), min(set(range(6)) - set(running))
            first = backbone.prefill(slot, row.ids[: row.prompt_rows])
            assert first is not None
            running[slot] = (row, [first.values[0]])
        for slot, (row, got) in list(running.items()):
            if len(got) == len(row.wanted):
                _assert_close(np.stack(got), row.wanted)
                backbone.release(slot)
                del running[slot]
                num_finished += 1
        # Every slot rests now and then.
        slots = [slot for slot in running if (step + slot) % 4]
        if slots:
            places = [running[slot][0].prompt_rows + len(running[slot][1]) - 1 for slot in slots]
            ids = [running[slot][0].ids[place] for slot, place in zip(slots, places, strict=True)]
            logits = backbone.decode(slots, np.stack(ids))
            for slot, values in zip(slots, logits.values, strict=True):
                running[slot][1].append(values)
        if not waiting and not running:
            break
    assert num_finished == 7
