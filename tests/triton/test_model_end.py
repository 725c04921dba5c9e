from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format

from duologue.runtime.supervisor.embedded import EmbeddedServer
from duologue.runtime.supervisor.layout import read_config

pytestmark = pytest.mark.usefixtures("needs_triton")


def test_a_model_that_hangs_at_its_end_does_not_keep_the_server(
    scripted_repository: Path, tmp_path: Path
) -> None:
    repository, log_path = tmp_path / "repository", tmp_path / "log"
    shutil.copytree(scripted_repository, repository)
    (config_path,) = repository.glob("*/config.pbtxt")
    config = read_config(config_path)
    config.parameters["hangs_at_its_end"].string_value = "yes"
    config_path.write_text(text_format.MessageToString(config))

    with EmbeddedServer("noise", log_path=log_path, extra_repositories=(repository,)) as server:
        pass

    text = log_path.read_text()
    assert server.exit_status == 0
    assert "dialogue_scripted ends: 0 request threads" in text
    assert "dialogue_scripted has ended" not in text
    assert "dialogue_tts has ended" in text
    assert "in finalize" in text, "the stacks show where it hung"
