# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from duologue.cli.main import app

HEAVY = "'grpc', 'tritonclient', 'torch', 'onnxruntime', 'numpy', 'soundfile'"
RUN = f"""
import sys
from duologue.cli.main import app
try:
    app(sys.argv[1:])
finally:
    print("heavy:", *{{{HEAVY}}} & {{*sys.modules}})
"""


VERBS = [command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True
    )
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]


def test_help_names_every_verb(house):
    text = house.run("--help").stdout
    assert {"say", "serve"} <= {*VERBS}
    assert all(verb in text for verb in VERBS)


def test_version_is_the_package_s(house):
    assert house.run("--version").stdout.strip() == version("duologue")
