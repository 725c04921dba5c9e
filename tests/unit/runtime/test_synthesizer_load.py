"""What a synthesizer loads, and what it gives back when that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from duologue.runtime import synthesizer as module
from duologue.runtime.errors import ConfigError
from duologue.runtime.synthesizer import Synthesizer


@pytest.mark.parametrize(("engine", "device"), [("torch", "cuda"), ("onnx", "cpu")])
def test_the_codec_is_loaded_beside_the_language_model_or_the_model_is_closed(
    monkeypatch: pytest.MonkeyPatch, engine: str, device: str
) -> None:
    closed: list[bool] = []
    asked: list[str] = []
    backbone = SimpleNamespace(
        spec=SimpleNamespace(engine=engine), close=lambda: closed.append(True)
    )

    def no_room(*_: Any, device: str) -> Any:
        asked.append(device)
        raise ConfigError("no room")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "load_backbone", lambda *_, **__: backbone)
    monkeypatch.setattr(module, "load_codec", no_room)
    with pytest.raises(ConfigError, match="no room"):
        Synthesizer.load("default")
    assert (asked, closed) == ([device], [True])
