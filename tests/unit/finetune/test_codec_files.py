# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.build_engines.random_checkpoint_codec import (
    RandomCodecSizes,
    generator_params,
    write_random_codec,
)
from duologue.finetune import codec_files
from duologue.finetune.codec_files import (
    STATE_FILE,
    WEIGHTS_FILE,
    check_sizes,
    read_generator_params,
    read_state,
    read_weights,
    write_config,
    write_state,
    write_weights,
)
from duologue.finetune.errors import TrainingError
from duologue.finetune.settings import packaged_config
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.errors import ConfigError

SIZES = RandomCodecSizes(num_codebooks=2, codebook_size=16, rvq_dim=4, d_model=8, num_heads=2)


def test_packaged_sizes_are_read() -> None:
    params = read_generator_params(packaged_config("codec_small.yaml"))
    assert XyParameters.from_dict(params).num_codebooks == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1e-4\nbf16: true\n", "has no mapping generator_params"),
        ("- 1\n", "has no mapping generator_params"),
        ("a: [", "cannot be read"),
        (None, "does not exist"),
    ],
    ids=["settings of a language model", "a list", "no yaml", "no file"],
)
def test_what_gives_no_sizes_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "codec.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_generator_params(path)


def test_the_language_models_settings_are_no_sizes() -> None:
    with pytest.raises(ConfigError, match="allowed: the sizes of an XY-Tokenizer"):
        read_generator_params(packaged_config("lm_small.yaml"))


def test_other_sizes_are_named_and_other_settings_are_not(tmp_path: Path) -> None:
    params: dict[str, Any] = generator_params(SIZES)
    write_config(tmp_path / "codec", params)
    rvq = params["quantizer_kwargs"]
    dropped = params | {"quantizer_kwargs": rvq | {"quantizer_dropout": 0.5}}
    check_sizes(tmp_path / "codec", XyParameters.from_dict(dropped))
    larger = params | {"quantizer_kwargs": rvq | {"num_quantizers": 3, "codebook_size": 32}}
    with pytest.raises(ConfigError, match="whose num_codebooks, codebook_size differ"):
        check_sizes(tmp_path / "codec", XyParameters.from_dict(larger))


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_random_codec(tmp_path, sizes=SIZES)
    first = read_weights(tmp_path)
    assert first is not None
    write_weights(tmp_path, first)
    second = read_weights(tmp_path)
    assert second is not None
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor)


def test_an_empty_folder_has_neither_weights_nor_state(tmp_path: Path) -> None:
    assert read_weights(tmp_path) is None
    assert read_state(tmp_path, "cpu") is None


def test_a_kill_while_weights_are_written_leaves_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_random_codec(tmp_path, sizes=SIZES)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()

    def stop(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(codec_files, "write_torch_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        write_weights(tmp_path, {})
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    write_state(tmp_path, {"step": 3, "codec": torch.zeros(1000)})
    whole = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=r"training\.state is damaged"):
        read_state(tmp_path, "cpu")
