"""One checkpoint between several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duologue.finetune.average import main
from duologue.finetune.model_files import load_base
from duologue.finetune.new_model import write_new_model


def test_a_mean_lies_between_checkpoints_as_their_shares_say(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for seed, folder in enumerate(folders):
        write_new_model(folder, "tiny", seed)
    main([*map(str, folders), "--shares", "1", "3", "--out", str(tmp_path / "mean")])
    main([*map(str, folders), "--out", str(tmp_path / "middle")])
    states = [
        load_base(tmp_path / name).model.state_dict() for name in ("a", "b", "mean", "middle")
    ]
    for name, first in states[0].items():
        second, mean, middle = (state[name] for state in states[1:])
        assert torch.allclose(mean, (first + 3 * second) / 4, atol=1e-7), name
        assert torch.allclose(middle, (first + second) / 2, atol=1e-7), name
    assert load_base(tmp_path / "mean").checkpoint.reading == "pinyin"


def test_what_has_no_mean_is_refused(tmp_path: Path) -> None:
    for name, shape in (("a", "tiny"), ("b", "small")):
        write_new_model(tmp_path / name, shape, seed=0)
    one, other, out = (str(tmp_path / name) for name in ("a", "b", "out"))
    with pytest.raises(SystemExit, match="a model of another shape"):
        main([one, other, "--out", out])
    for shares in (["1"], ["1", "-1"]):
        with pytest.raises(SystemExit, match="allowed: 2 positive numbers"):
            main([one, one, "--out", out, "--shares", *shares])
    with pytest.raises(SystemExit, match="missing"):
        main([str(tmp_path / "none"), one, "--out", out])
    assert not Path(out).exists()
