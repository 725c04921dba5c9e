# SPDX-License-Identifier: Apache-2.0
"""`python -m duologue.cli` is the program `duologue`."""

from __future__ import annotations

from duologue.cli.main import app

if __name__ == "__main__":
    app(prog_name="duologue")
