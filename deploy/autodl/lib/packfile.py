# SPDX-License-Identifier: Apache-2.0
"""The zips of an offline deployment: writing them, looking into them, unpacking them.

A zip of ours has one top folder with `manifest.txt` in it: a line "sha256  bytes  name" for each
file. Needs Python 3.8 and its standard library: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

MANIFEST = "manifest.txt"
BLOCK_BYTES = 1 << 20
# Wheels and weights hardly get smaller: they are stored, which is quick at both ends.
METHOD = zipfile.ZIP_STORED
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[^-]+)(-\d[^-]*)?(-[^-]+){3}\.whl")
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")


class PackError(Exception):
    """A pack cannot be used; the text says which file, and why."""


def write(archive: Path, folder: Path) -> None:
    """Put a folder into a zip, under its own name and with a manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    lines = [f"{_sha256(path)}  {path.stat().st_size}  {_inside(path, folder)}" for path in files]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    part = archive.with_name(archive.name + ".part")
    with zipfile.ZipFile(part, "w", METHOD, allowZip64=True) as target:
        for path in [folder / MANIFEST, *files]:
            target.write(path, f"{folder.name}/{_inside(path, folder)}")
    part.replace(archive)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder without its top folder, and hold the files to the manifest.

    Raises:
        PackError: the zip cannot be read, or a file is missing or not the one that was packed.
    """
    with opened(archive) as source:
        members = [info for info in source.infolist() if not info.is_dir()]
        prefix = common_folder([info.filename for info in members])
        for info in members:
            target = folder / _safe(info.filename[len(prefix) :], archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with source.open(info) as read, target.open("wb") as written:
                    shutil.copyfileobj(read, written, BLOCK_BYTES)
            except (zipfile.BadZipFile, EOFError) as error:
                raise PackError(f"{archive}: {info.filename} is damaged: {error}") from error
    if (folder / MANIFEST).is_file():
        check(folder, archive)


def check(folder: Path, archive: Path) -> None:
    """Hold an unpacked folder to its manifest.

    Raises:
        PackError: a file is missing or not the one that was packed.
    """
    for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines():
        digest, size, name = line.split("  ", 2)
        path = folder / _safe(name, archive)
        if not path.is_file():
            raise PackError(f"{archive}: {name} is in its manifest and not in it")
        if path.stat().st_size != int(size) or _sha256(path) != digest:
            raise PackError(f"{archive}: {name} is not the file that was packed")


def opened(archive: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        PackError: it is no zip, or its end, where the list of its files stands, is missing.
    """
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, EOFError) as error:
        size = archive.stat().st_size
        raise PackError(
            f"{archive} ({size} bytes) is no whole zip: it was cut short, or is not a zip "
            f"({error}); upload it again"
        ) from error


def common_folder(names: list[str]) -> str:
    """The one top folder of all names with its slash, or "" when there is none.

    >>> common_folder(["a/b", "a/c/d"]), common_folder(["a/b", "c"]), common_folder([])
    ('a/', '', '')
    """
    tops = {name.split("/", 1)[0] + "/" if "/" in name else "" for name in names}
    return tops.pop() if len(tops) == 1 else ""


def narrow_lock(lock: Path, wheels: Path) -> str:
    """The lock of a folder of wheels: each at its version, with the hash of the file that is there.

    Args:
        lock: requirements that were resolved, "name==version" with the hashes of the index.
        wheels: those that were downloaded, and further ones that were put beside them.

    Raises:
        PackError: a wheel of the lock is missing, or there is another version of it.
    """
    found = {}
    for path in sorted(wheels.glob("*.whl")):
        match = _WHEEL.fullmatch(path.name)
        if match is None:
            raise PackError(f"{path.name} is no name of a wheel")
        found[normal(match["name"])] = (match["version"], _sha256(path))
    for match in _PIN.finditer(lock.read_text(encoding="utf-8")):
        name, version = normal(match["name"]), match["version"]
        if name not in found or found[name][0] != version:
            raise PackError(f"{name} {version} is in the lock, and its wheel is not in {wheels}")
    lines = [
        f"{name}=={version} --hash=sha256:{digest}" for name, (version, digest) in found.items()
    ]
    return "\n".join(lines) + "\n"


def installed_bytes(wheels: Path) -> int:
    """What a folder of wheels takes when it is installed, compiled modules included."""
    total = 0
    for path in wheels.glob("*.whl"):
        with opened(path) as wheel:
            for info in wheel.infolist():
                # The compiled form of a module is about as long as its text.
                total += info.file_size * (2 if info.filename.endswith(".py") else 1)
    return total


def unpacked_bytes(archive: Path) -> int:
    """Sum of the sizes of a zip's files."""
    with opened(archive) as source:
        return sum(info.file_size for info in source.infolist())


def normal(name: str) -> str:
    """The form in which names of packages are compared.

    >>> normal("Nvidia_PyTriton")
    'nvidia-pytriton'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PackError(f"{archive} holds {name!r}, a path that leads out of it")
    return path


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def main(argv: list[str]) -> int:
    """Run one command; its answer goes to stdout, a fault to stderr with exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("write", "unpack", "lock", "installed", "size"))
    parser.add_argument("path", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("."))
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "write":
            write(arguments.path, arguments.folder)
        elif arguments.command == "unpack":
            unpack(arguments.path, arguments.folder)
        elif arguments.command == "lock":
            sys.stdout.write(narrow_lock(arguments.path, arguments.folder))
        elif arguments.command == "installed":
            sys.stdout.write(f"{installed_bytes(arguments.path)}\n")
        else:
            sys.stdout.write(f"{unpacked_bytes(arguments.path)}\n")
    except PackError as error:
        sys.stderr.write(f"fault: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"fault: {arguments.command} {arguments.path}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
