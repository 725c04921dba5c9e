# SPDX-License-Identifier: Apache-2.0
"""Where a model comes from: a folder or file here, or a repository on a model hub.

Mirrors, tokens and caches are set up as the hub's own library documents it: for Hugging Face
by HF_ENDPOINT, HF_TOKEN and HF_HOME, which the library reads itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from duologue.runtime.errors import ConfigError, EngineUnavailableError

MODELSCOPE_PREFIX = "modelscope:"
# Weights, configurations and tokenizers; no pictures, no remote code.
MODEL_FILES = (
    "*.json",
    "*.safetensors",
    "*.bin",
    "*.ckpt",
    "*.pt",
    "*.pth",
    "*.yaml",
    "*.yml",
    "*.txt",
)

_HUB_ID = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?"
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository on a hub.

    Attributes:
        repository: "organisation/name".
        revision: branch, tag or commit; None takes the newest.
        modelscope: it lies on ModelScope instead of Hugging Face.
    """

    repository: str
    revision: str | None = None
    modelscope: bool = False

    @property
    def download_command(self) -> str:
        """The command that fetches the repository by hand into the folder MODEL."""
        revision = f" --revision {self.revision}" if self.revision else ""
        if self.modelscope:
            return f"modelscope download {self.repository}{revision} --local-dir MODEL"
        return f"hf download {self.repository}{revision} --local-dir MODEL"


def parse_hub_model(source: str) -> HubModel:
    """Read "organisation/name", with "modelscope:" before and "@revision" behind as wanted.

    >>> parse_hub_model("fnlp/MOSS-TTSD-v0.5")
    HubModel(repository='fnlp/MOSS-TTSD-v0.5', revision=None, modelscope=False)
    >>> parse_hub_model("modelscope:fnlp/MOSS-TTSD-v0.5@main").revision
    'main'

    Raises:
        ConfigError: the text is no such name.
    """
    modelscope = source.startswith(MODELSCOPE_PREFIX)
    match = _HUB_ID.fullmatch(source.removeprefix(MODELSCOPE_PREFIX))
    if match is None:
        raise ConfigError(
            f"model source is {source!r}; allowed: an existing folder or file, "
            f"organisation/name[@revision], or {MODELSCOPE_PREFIX}organisation/name[@revision]"
        )
    return HubModel(match["repository"], match["revision"], modelscope)


def resolve_model(
    source: str,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Find a model on this machine, fetching it from a hub when it is not here.

    A broken download goes on where it stopped when the call is made again.

    Args:
        source: an existing folder or file, or what `parse_hub_model` reads.
        offline: take what an earlier download left, and never ask the network.
        cache_dir: where downloads are kept; None is the hub library's own place.
        endpoint: address of a Hugging Face mirror; None is the library's own setting.

    Raises:
        ConfigError: no such model, no access to it, or no network; says how to fetch it by hand.
        EngineUnavailableError: the hub's library is not installed.
    """
    if Path(source).exists():
        return Path(source)
    model = parse_hub_model(source)
    if model.modelscope:
        return _from_modelscope(model, offline=offline, cache_dir=cache_dir)
    return _from_hugging_face(model, offline=offline, cache_dir=cache_dir, endpoint=endpoint)


def _from_hugging_face(
    model: HubModel, *, offline: bool, cache_dir: Path | None, endpoint: str | None
) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise _missing_library("huggingface_hub", "duologue[build]") from error
    # HTTPError is the root of its HTTP library's errors; which one that is depends on the version.
    transport = errors.HTTPError  # type: ignore[attr-defined]
    try:
        folder = snapshot_download(
            model.repository,
            revision=model.revision,
            cache_dir=cache_dir,
            local_files_only=offline,
            allow_patterns=list(MODEL_FILES),
            endpoint=endpoint,
        )
    # A missing snapshot and a dropped connection are OSErrors too.
    except (errors.HfHubHTTPError, errors.HFValidationError, transport, OSError) as error:
        raise _unreachable(model, offline, error) from error
    return Path(str(folder))


def _from_modelscope(model: HubModel, *, offline: bool, cache_dir: Path | None) -> Path:
    try:
        from modelscope import snapshot_download
        from modelscope.hub.errors import HubError
    except ImportError as error:
        raise _missing_library("modelscope", "duologue[modelscope]") from error
    try:
        folder = snapshot_download(
            model.repository,
            revision=model.revision,
            cache_dir=None if cache_dir is None else str(cache_dir),
            local_files_only=offline,
            allow_patterns=list(MODEL_FILES),
        )
    except (HubError, OSError, ValueError) as error:
        raise _unreachable(model, offline, error) from error
    return Path(str(folder))


def _missing_library(module: str, package: str) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"fetching a model needs {module}: pip install '{package}', or give a folder"
    )


def _unreachable(model: HubModel, offline: bool, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    state = f"cannot be fetched ({lines[0]})"
    if offline:
        state = "is not complete in the local cache, and --offline forbids asking the network"
    mirror = "" if model.modelscope else " (HF_ENDPOINT names a mirror)"
    return ConfigError(
        f"{model.repository} {state}. By hand, where there is a network{mirror}: "
        f"{model.download_command}; then give the folder MODEL instead"
    )
