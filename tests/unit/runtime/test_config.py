from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest

from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError


def _changed(**fields: Any) -> str:
    data = json.loads(fakes.BUNDLE.to_json())
    for path, value in fields.items():
        *folders, name = path.split("__")
        place = data
        for folder in folders:
            place = place[folder]
        place[name] = value
    return json.dumps(data)


def test_a_bundle_survives_its_own_text() -> None:
    assert Bundle.from_json(fakes.BUNDLE.to_json()) == fakes.BUNDLE
    default = Bundle.load(noise_bundle_path())
    assert Bundle.from_json(default.to_json()) == default


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "no JSON"),
        ("[]", "allowed: an object"),
        ("{}", "missing"),
        (_changed(colour="red"), "colour"),
        (_changed(lm__hidden_size="many"), r"lm\.hidden_size is 'many'"),
        (_changed(lm__hidden_size=True), r"lm\.hidden_size is True"),
        (_changed(lm__hidden_size=0), r"lm\.hidden_size is 0"),
        (_changed(lm__delays=[1, 0, 2, 3]), r"lm\.delays"),
        (_changed(lm__num_kv_heads=3), r"lm\.num_kv_heads"),
        (_changed(lm__vocab_sizes=5), "allowed: a list"),
        (_changed(tokens__speech_stop=0), r"tokens\.speech_start"),
        (_changed(codec__num_codebooks=3), r"codec\.num_codebooks"),
        (_changed(codec__max_frames=3), r"windows\.steps"),
        (_changed(windows__steps=[]), r"windows\.steps"),
        (_changed(windows__steps=[{"hop": 0, "left": 0, "right": 0}]), "hop is 0"),
        (_changed(sampling=[]), "sampling is 0"),
        (_changed(format=99), "format is 99"),
    ],
)
def test_a_description_that_cannot_work_names_the_field(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Bundle.from_json(text)


def test_a_folder_without_a_description_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no bundle"):
        Bundle.load(tmp_path)


def test_whole_numbers_stand_for_numbers_but_not_the_other_way_round() -> None:
    assert Bundle.from_json(_changed(lm__rope_theta=10000)).lm.rope_theta == 10000.0
    with pytest.raises(ConfigError, match=r"lm\.num_layers is 1\.5"):
        Bundle.from_json(_changed(lm__num_layers=1.5))
