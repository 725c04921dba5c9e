# SPDX-License-Identifier: Apache-2.0
"""Python and its packages, against what duologue asks for or against a lock file."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from duologue.runtime.diagnosis.finding import Finding, fault, ok, warning
from duologue.runtime.errors import ConfigError

MIN_PYTHON = (3, 10)
MAX_TRITON_PYTHON = (3, 12)
EXTRAS = {
    "": "duologue itself",
    "client": "clients",
    "cpu": "the embedded server",
    "gateway": "the HTTP door",
}
"""Extras that are looked at, and what needs them."""

VersionOf = Callable[[str], str]
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")


def check_python(version: tuple[int, int] | None = None) -> Finding:
    """The interpreter.

    Args:
        version: (major, minor); None takes the running one's.
    """
    here = version or sys.version_info[:2]
    text = f"{here[0]}.{here[1]}"
    if here < MIN_PYTHON:
        return fault("Python", text, "install Python 3.10 to 3.12 and make a new environment")
    if here > MAX_TRITON_PYTHON:
        return warning(
            "Python",
            f"{text}: no Triton wheel exists for it, so dialogues are spoken in process",
            "make an environment with Python 3.10 to 3.12",
        )
    return ok("Python", f"{text} ({platform.python_implementation()})")


def check_packages(
    requirements: Iterable[str] | None = None, version_of: VersionOf = metadata.version
) -> list[Finding]:
    """Installed packages against the ranges that duologue asks for, one line per extra.

    Args:
        requirements: as package metadata writes them; None takes duologue's own.
        version_of: gives the installed version of a package.
    """
    asked = metadata.requires("duologue") or [] if requirements is None else requirements
    parsed = [Requirement(line) for line in asked]
    return [_check_extra(extra, parsed, version_of) for extra in EXTRAS]


def check_lock(path: Path, version_of: VersionOf = metadata.version) -> Finding:
    """Installed packages against a lock file with one `name==version` per line.

    Args:
        path: of the lock; lines without a pin (options, hashes, comments) are passed over.
        version_of: gives the installed version of a package.

    Raises:
        ConfigError: the file cannot be read, or pins nothing.
    """
    pins = _read_pins(path)
    differing = []
    for name, version in pins.items():
        there = _version(name, version_of)
        if there != version:
            differing.append(f"{name} {there or 'missing'} (lock: {version})")
    if not differing:
        return ok("lock", f"all {len(pins)} packages as in {path.name}")
    shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
    return fault(
        "lock", f"{len(differing)} of {len(pins)} differ: {shown}", f"pip install -r {path}"
    )


def _read_pins(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the lock file {path} cannot be read: {error}") from error
    found = (_PIN.match(line.strip()) for line in lines)
    pins = {match["name"]: match["version"] for match in found if match is not None}
    if not pins:
        raise ConfigError(f"{path} pins nothing; allowed: lines of the form name==version")
    return pins


def _check_extra(extra: str, parsed: list[Requirement], version_of: VersionOf) -> Finding:
    topic = f"packages of {EXTRAS[extra]}"
    name = f"duologue[{extra}]" if extra else "duologue"
    wanted = [each for each in parsed if _belongs(each, extra)]
    versions = {each.name: _version(each.name, version_of) for each in wanted}
    missing = [each.name for each in wanted if versions[each.name] is None]
    wrong = [
        f"{each.name} {versions[each.name]} (wanted {each.specifier})"
        for each in wanted
        if versions[each.name] is not None
        and not each.specifier.contains(str(versions[each.name]), prereleases=True)
    ]
    remedy = f"pip install '{name}'"
    if wrong:
        return fault(topic, "; ".join(wrong), remedy)
    if missing:
        grade = warning if extra else fault
        return grade(topic, f"missing: {', '.join(missing)}", remedy)
    return ok(topic, ", ".join(f"{package} {version}" for package, version in versions.items()))


def _belongs(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is asked for by an extra, on this machine, and by no smaller one."""
    if requirement.name == "duologue":
        return False
    marker = requirement.marker
    if marker is None:
        return extra == ""
    return bool(extra) and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _version(name: str, version_of: VersionOf) -> str | None:
    try:
        return version_of(name)
    except metadata.PackageNotFoundError:
        return None
