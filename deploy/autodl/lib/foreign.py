# SPDX-License-Identifier: Apache-2.0
"""Zips that `pack.sh` has not made: what they hold, what of it fits, and what is missing.

People have an `offline_packages.zip` and a `pretrained_models.zip` of another project on their
data disk, mostly those of CosyVoice. Needs Python 3.8 and its standard library.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from packfile import PackError, normal, opened

# The embedded Triton server runs with these.
PYTHONS = ("3.10", "3.11", "3.12")
_TAG = re.compile(r"-cp3(\d{1,2})-")
_EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN_EXTRAS = re.compile(r"duologue\[(?P<extras>[^\]]+)\]")
COSYVOICE = re.compile(r"(cosyvoice[0-9]*\.yaml|CosyVoice[0-9]*-[^/]+/(llm|flow|hift)\.pt)$")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
CODEC_WEIGHTS = ("*.ckpt", "*.pt", "*.bin", "*.safetensors")


def is_ours(archive: Path) -> bool:
    """The zip has a manifest at its top."""
    with opened(archive) as source:
        return any(re.fullmatch(r"[^/]+/manifest\.txt", name) for name in source.namelist())


def python_of(archive: Path) -> str:
    """The Python for which most wheels of a zip were made, "3.11"; "" when none tells."""
    with opened(archive) as source:
        tags = Counter(tag for name in source.namelist() for tag in _TAG.findall(name))
    fitting = [f"3.{tag}" for tag, _ in tags.most_common() if f"3.{tag}" in PYTHONS]
    return fitting[0] if fitting else ""


def fits(name: str, python: str) -> bool:
    """Whether a wheel can be installed on Linux with this Python.

    >>> [fits(f"a-1-{tags}.whl", "3.11") for tags in
    ...  ("py3-none-any", "cp38-cp38-linux_x86_64", "cp39-abi3-linux_x86_64", "cp311-cp311-win32")]
    [True, False, True, False]
    """
    pythons, abi, platform = name[: -len(".whl")].split("-")[-3:]
    if platform != "any" and not ("linux" in platform and "x86_64" in platform):
        return False
    minor = int(python.split(".")[1])
    found = [int(tag) for tag in re.findall(r"cp3(\d{1,2})", pythons)]
    if abi == "abi3":
        return any(tag <= minor for tag in found)
    return minor in found or "py3" in pythons


def missing_packages(wheels: Path, python: str, extras: set[str]) -> list[str]:
    """Packages that our wheel asks for by name and a folder of wheels does not have.

    Raises:
        PackError: our own wheel is not there.
    """
    names = [path for path in wheels.glob("*.whl") if fits(path.name, python)]
    have = {normal(path.name.split("-")[0]) for path in names}
    ours = [path for path in names if normal(path.name.split("-")[0]) == "duologue"]
    if not ours:
        raise PackError(
            "offline_packages.zip has no wheel of duologue (duologue-*.whl): it is the pack of "
            "another project. Put that wheel beside the zip, or make a pack with pack.sh"
        )
    with opened(ours[0]) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        text = wheel.read(metadata).decode("utf-8")
    wanted = _wanted(re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE), extras)
    return sorted(wanted - have - {"duologue"})


def _wanted(lines: list[str], extras: set[str]) -> set[str]:
    """Names of requirements; an extra that names extras of our own brings theirs, too."""
    names: set[str] = set()
    for line in lines:
        condition = _EXTRA.search(line)
        if condition is not None and condition["extra"] not in extras:
            continue
        own = _OWN_EXTRAS.match(line)
        if own is not None:
            more = set(own["extras"].split(","))
            names |= _wanted(lines, extras | more) if more - extras else set()
        found = _NAME.match(line)
        if found is not None:
            names.add(normal(found[0]))
    return names


def find_models(folder: Path) -> dict[str, str]:
    """What can be used of a folder of models.

    Returns:
        "bundle", or "lm" and "codec", and "ttsfrd": the folders, as far as they are there.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("bundle.json")):
        found.setdefault("bundle", str(path.parent))
    for path in sorted(folder.rglob("config.json")):
        if _is_language_model(path):
            found.setdefault("lm", str(path.parent))
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        has_weights = any(any(path.parent.rglob(pattern)) for pattern in CODEC_WEIGHTS)
        if has_weights and "generator_params" in path.read_text("utf-8", errors="replace"):
            found.setdefault("codec", str(path.parent))
    for path in sorted([*folder.rglob("resource.zip"), *folder.rglob("resource")]):
        if "ttsfrd" in path.parent.name.lower():
            found.setdefault("ttsfrd", str(path.parent))
    return found


def _is_language_model(config: Path) -> bool:
    try:
        data: Any = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False
    is_moss = isinstance(data, dict) and {"channels", "speech_vocab_size"} <= set(data)
    return is_moss and any(any(config.parent.glob(pattern)) for pattern in WEIGHTS)


def describe_models(archive: Path) -> str:
    """One word for what a zip of models seems to be: "cosyvoice", or "unknown"."""
    with opened(archive) as source:
        is_cosyvoice = any(COSYVOICE.search(name) for name in source.namelist())
    return "cosyvoice" if is_cosyvoice else "unknown"


def main(argv: list[str]) -> int:
    """Run one command; its answer goes to stdout, a fault to stderr with exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("ours", "python", "misfits", "missing", "find", "what"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--python", default="3.11")
    parser.add_argument("--extras", default="")
    arguments = parser.parse_args(argv)
    path: Path = arguments.path
    try:
        answers = {
            "ours": lambda: "yes" if is_ours(path) else "no",
            "python": lambda: python_of(path),
            "misfits": lambda: "\n".join(
                sorted(x.name for x in path.glob("*.whl") if not fits(x.name, arguments.python))
            ),
            "missing": lambda: " ".join(
                missing_packages(path, arguments.python, set(arguments.extras.split(",")))
            ),
            "find": lambda: "\n".join(f"{k} {v}" for k, v in find_models(path).items()),
            "what": lambda: describe_models(path),
        }
        sys.stdout.write(answers[arguments.command]() + "\n")
    except (PackError, OSError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"fault: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
