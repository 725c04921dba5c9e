# SPDX-License-Identifier: Apache-2.0
"""Writing a bundle in stages: what is done stays done, and a half bundle never loads.

Everything is made in the folder `<out>.partial`, beside the bundle that is to be:

    out.partial/lock         held while a build runs
    out.partial/stages.json  finished stages: what they depended on, what they wrote
    out.partial/bundle/      the bundle's files; `bundle.json` is the last of them

The folder `bundle` is renamed to `out` when it is complete. A build that was killed goes on
with the first stage that is not recorded, or whose inputs have changed since.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from duologue.runtime.bundle_files import describe_file, verify_bundle
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.errors import ConfigError

STAGES_FILE = "stages.json"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage left behind.

    Attributes:
        files: names inside the bundle that it wrote.
        facts: JSON values that later stages and `bundle.json` want to know.
    """

    files: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a build.

    Attributes:
        name: for people, and the key of its record.
        inputs: JSON values that the result depends on; equal inputs are not built twice.
        run: writes into the directory that it is given.
    """

    name: str
    inputs: Mapping[str, Any]
    run: Callable[[Path], StageResult]

    @property
    def fingerprint(self) -> str:
        """Hash of the inputs."""
        text = json.dumps({"name": self.name, **self.inputs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class BundleWriter:
    """The work folder of one bundle, to be used as a context.

    Args:
        out_dir: where the bundle will be. An older bundle there is replaced.

    Raises:
        ConfigError: on entering: `out_dir` holds something else, or another build writes it.
    """

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir.absolute()
        self._work = self.out_dir.with_name(self.out_dir.name + ".partial")
        self.directory = self._work / "bundle"
        self._records: dict[str, dict[str, Any]] = {}
        self._used: list[str] = []
        self._lock = -1

    def __enter__(self) -> BundleWriter:
        if self.out_dir.exists() and not _may_be_replaced(self.out_dir):
            raise ConfigError(f"{self.out_dir} exists and is no bundle; allowed: a new directory")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._work / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigError(f"another build is writing {self.out_dir}") from error
        self._records = self._read_records()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def run(self, stage: Stage) -> tuple[StageResult, bool]:
        """Run a stage, or take over what an earlier build left of it.

        Returns:
            The result, and whether it was taken over.
        """
        self._used.append(stage.name)
        record = self._records.get(stage.name)
        if record and record["fingerprint"] == stage.fingerprint and self._holds(record):
            return StageResult(tuple(record["files"]), record["facts"]), True
        result = stage.run(self.directory)
        files = {name: _settle(self.directory / name) for name in result.files}
        self._records[stage.name] = {
            "fingerprint": stage.fingerprint,
            "files": files,
            "facts": result.facts,
        }
        _write_text(self._work / STAGES_FILE, json.dumps(self._records, indent=1) + "\n")
        return result, False

    def finish(self, bundle: Bundle, leave_out: Collection[str] = ()) -> Bundle:
        """Describe the bundle and put it in its place.

        Args:
            bundle: without `files`; they are filled in from the stages of this build.
            leave_out: files that only later stages needed.

        Returns:
            The bundle as it was written.
        """
        files: dict[str, dict[str, Any]] = {}
        for name in self._used:
            files.update(self._records[name]["files"])
        kept = {name: files[name] for name in sorted(files) if name not in leave_out}
        bundle = dataclasses.replace(bundle, files=kept)
        self._drop_strangers(set(kept))
        _write_text(self.directory / BUNDLE_FILE, bundle.to_json())
        verify_bundle(self.directory)
        self._move_into_place()
        return bundle

    def _drop_strangers(self, wanted: set[str]) -> None:
        """Files of stages that an earlier build had and this one has not."""
        for path in sorted(self.directory.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(self.directory).as_posix() not in wanted:
                path.unlink()

    def _move_into_place(self) -> None:
        replaced = self._work / "replaced"
        if self.out_dir.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(self.out_dir, replaced)
        os.replace(self.directory, self.out_dir)
        _sync_directory(self.out_dir.parent)
        shutil.rmtree(self._work)

    def _read_records(self) -> dict[str, dict[str, Any]]:
        try:
            records = json.loads((self._work / STAGES_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # Nothing was finished yet, or the record is of no use: all stages run.
            return {}
        return records if isinstance(records, dict) else {}

    def _holds(self, record: dict[str, Any]) -> bool:
        return all(
            (self.directory / name).is_file() and describe_file(self.directory / name) == entry
            for name, entry in record["files"].items()
        )


def _may_be_replaced(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    return (directory / BUNDLE_FILE).is_file() or not any(directory.iterdir())


def _settle(path: Path) -> dict[str, Any]:
    """Make sure that a file is on the disk and that others may read it, and describe it."""
    path.chmod(0o644)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return describe_file(path)


def _write_text(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
