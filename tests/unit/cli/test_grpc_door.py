from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue.cli.grpc_door import why_no_grpc_door
from duologue.cli.main import app
from duologue.runtime.supervisor import triton_install


def test_the_embedded_server_stays_on_loopback() -> None:
    reason = why_no_grpc_door({})
    assert reason is not None
    assert "24.10, below the security floor 26.06" in reason


@pytest.mark.parametrize(
    ("version", "is_open"),
    [("25.12", False), ("26.05", False), ("26.06", True), ("27.01", True), ("latest", False)],
)
def test_an_image_is_held_to_the_floor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, is_open: bool
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    monkeypatch.setattr(triton_install, "IMAGE_DIR", tmp_path)
    reason = why_no_grpc_door({triton_install.IMAGE_VERSION: version})
    assert (reason is None) == is_open


def test_serve_refuses_it_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(triton_install.IMAGE_VERSION, raising=False)
    words = ["serve", "--grpc-host", "0.0.0.0", "--public-without-keys"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "below the security floor" in result.stderr


def test_a_public_grpc_door_without_keys_is_refused() -> None:
    result = CliRunner().invoke(app, ["config", "show", "--grpc-host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "no key is asked for" in result.stderr
