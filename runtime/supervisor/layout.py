# SPDX-License-Identifier: Apache-2.0
"""Lays out the folders that one tritonserver runs from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.triton_install import TritonInstall

CONFIG_FILE = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Folders of one server, all under `root`.

    Attributes:
        root: private to this server, removed when it stops.
        backends: for `--backend-directory`.
        repository: a copy of the model repository with this server's parameters.
        cwd: an empty working directory: whatever lies there could be imported by a model.
        log: what the server and its models write.
    """

    root: Path

    @property
    def backends(self) -> Path:
        """For `--backend-directory`."""
        return self.root / "backends"

    @property
    def repository(self) -> Path:
        """For `--model-repository`."""
        return self.root / "repository"

    @property
    def cwd(self) -> Path:
        """Working directory of the server."""
        return self.root / "cwd"

    @property
    def log(self) -> Path:
        """Default place of the server's log."""
        return self.root / "triton.log"


def prepare_workspace(
    root: Path, wheel: TritonInstall, repository: Path, parameters: Mapping[str, str]
) -> Workspace:
    """Fill a folder with everything that a server needs.

    Args:
        root: an empty folder.
        wheel: supplies the Python backend and its stub.
        repository: the model repository to copy.
        parameters: values for the model parameters of the same names; a model takes those
            that its own config declares.

    Raises:
        ConfigError: a config of the repository cannot be read.
    """
    workspace = Workspace(root)
    workspace.cwd.mkdir()
    backend = workspace.backends / "python"
    backend.mkdir(parents=True)
    for path in wheel.python_backend_files:
        (backend / path.name).symlink_to(path)
    copy_repository(repository, workspace.repository, parameters)
    return workspace


def copy_repository(source: Path, target: Path, parameters: Mapping[str, str]) -> None:
    """Copy the models of a repository and set parameters in the copy's configs.

    Raises:
        ConfigError: a config of the repository cannot be read.
    """
    for config_path in sorted(source.glob(f"*/{CONFIG_FILE}")):
        model_dir = target / config_path.parent.name
        shutil.copytree(config_path.parent, model_dir, ignore=shutil.ignore_patterns("__pycache__"))
        # Triton refuses a model without a version folder; an ensemble's is empty.
        (model_dir / "1").mkdir(exist_ok=True)
        config = read_config(config_path)
        for name in config.parameters:
            if name in parameters:
                config.parameters[name].string_value = parameters[name]
        text = text_format.MessageToString(config)
        (model_dir / CONFIG_FILE).write_text(text, encoding="utf-8")


def read_config(path: Path) -> ModelConfig:
    """Parse one `config.pbtxt`.

    Raises:
        ConfigError: the text is no model configuration.
    """
    config = ModelConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except text_format.ParseError as error:
        name = os.path.join(path.parent.name, path.name)
        raise ConfigError(f"{name} is no Triton model configuration: {error}") from error
    return config
