"""Fine-tuning data and losses, held to recordings of MOSS-TTSD v0.7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.build_engines.checkpoint import write_lm_safetensors
from duologue.finetune.collate import Collator
from duologue.finetune.dataset import Example, SpeechDataset, write_description, write_shard
from duologue.finetune.model import weigh
from duologue.finetune.model_files import load_base
from duologue.finetune.reference_files import metas_path, read_reference, write_reference
from duologue.finetune.rows import build_row, count_frames, label_row
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.config import TokenIds
from duologue.runtime.lm.delay import DelayPattern

DATA = Path(__file__).parent / "data"
PKL = DATA / "finetune" / "processed_data.pkl"
CHECKPOINT = DATA / "lm_scaled"
TOKENS = TokenIds(
    speech_start=151665,
    speech_stop=152689,
    end_of_speech=152694,
    pad=151643,
    speech_pad=1024,
    eos=(151643,),
)


@pytest.fixture(scope="module")
def batch() -> Any:
    return np.load(DATA / "finetune" / "golden_batch.npz")


def test_the_reference_files_are_read_and_written_byte_by_byte(tmp_path: Path) -> None:
    rows = read_reference(PKL)
    assert [len(row.input_ids) for row in rows] == [199, 217]
    assert [count_frames(row) for row in rows] == [55, 69]
    write_reference(tmp_path / PKL.name, rows)
    assert (tmp_path / PKL.name).read_bytes() == PKL.read_bytes()
    assert np.array_equal(np.load(metas_path(tmp_path / PKL.name)), np.load(metas_path(PKL)))


def test_rows_and_labels_are_rebuilt_from_text_and_codes() -> None:
    for row in read_reference(PKL):
        frames = count_frames(row)
        audio = row.input_ids[-1 - frames : -1]
        codes = audio.T - np.array([TOKENS.speech_start, *[0] * 7])[:, None]
        text_ids = [int(i) for i in row.input_ids[: -1 - frames, 0]]
        built = build_row(text_ids, codes, TOKENS)
        assert np.array_equal(built, row.input_ids)
        assert np.array_equal(label_row(built, frames).labels, row.labels)


def test_our_own_format_gives_the_same_rows_back(tmp_path: Path) -> None:
    rows = read_reference(PKL)
    write_shard(tmp_path, "s", [Example(r.input_ids, count_frames(r)) for r in rows])
    write_description(tmp_path, ["s"], {})
    dataset = SpeechDataset(tmp_path)
    assert len(dataset) == len(rows)
    for place, row in enumerate(rows):
        assert np.array_equal(dataset[place].input_ids, row.input_ids)
        assert np.array_equal(dataset[place].labels, row.labels)


def test_batches_equal_the_recorded_one(batch: Any) -> None:
    fills = (TOKENS.pad, *[TOKENS.speech_pad] * 7)
    collated = Collator(DelayPattern(tuple(range(8)), fills))(read_reference(PKL))
    for name in ("input_ids", "labels", "attention_mask"):
        assert np.array_equal(collated[name].numpy(), batch[name]), name


def test_the_weighted_loss_follows_from_the_losses_of_the_channels(batch: Any) -> None:
    channels = torch.from_numpy(batch["loss_all"])
    weighted, plain = weigh(channels, [8, 2, 1, 1, 1, 1, 1, 1]), weigh(channels, [1] * 8)
    assert float(weighted) == pytest.approx(float(batch["loss"]), abs=1e-5)
    assert float(plain) == pytest.approx(float(batch["loss_unweighted"]), abs=1e-5)


def test_the_trained_model_is_the_model_that_is_served(tmp_path: Path) -> None:
    base = load_base(CHECKPOINT)
    case = np.load(CHECKPOINT / "golden" / "b1_prompt13.npz")
    ids = case["sequences"][:, :80]
    write_lm_safetensors(base.checkpoint, tmp_path / "lm.safetensors", "float32")
    backbone = TorchBackbone(
        base.checkpoint.lm, tmp_path / "lm.safetensors", max_slots=1, max_rows=128
    )
    served = backbone.prefill(0, ids[0])
    assert served is not None
    with torch.inference_mode():
        ours = torch.cat([s[:, -1] for s in base.model.logits(torch.from_numpy(ids))], dim=1)
    assert np.abs(ours.numpy() - served.values).max() < 1e-4
