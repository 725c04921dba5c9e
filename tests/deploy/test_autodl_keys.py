# SPDX-License-Identifier: Apache-2.0
"""The keys of an instance: ours is made once, and nobody else's is lost by deploying again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from autodl_stub import SCRIPTS

from duologue.runtime.keys import make_key, read_keys

MAKE = """
set -euo pipefail
source lib/service.sh
ENVIRONMENT=$1/environment KEY_FILE=$1/api_key KEY_HASHES=$1/api_key_hashes
make_key
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "with space"
    (home / "environment" / "bin").mkdir(parents=True)
    (home / "environment" / "bin" / "python").symlink_to(sys.executable)
    return home


def deploy(home: Path) -> str:
    """Make the key as deploy.sh does; gives its line."""
    subprocess.run(["bash", "-c", MAKE, "bash", home], cwd=SCRIPTS, check=True, timeout=60)
    digest = hashlib.sha256((home / "api_key").read_text().strip().encode()).hexdigest()
    return f"autodl {digest} scopes=speak,voices,admin"


def lines(home: Path) -> list[str]:
    return (home / "api_key_hashes").read_text().splitlines()


def test_keys_that_were_added_by_hand_outlive_the_next_deployment(home: Path) -> None:
    ours = deploy(home)
    assert lines(home) == [ours]
    ann, bob = make_key("ann", max_streams=2)[1].as_line(), make_key("bob")[1].as_line()
    with (home / "api_key_hashes").open("a") as file:
        # The last line has no end: editors leave such files.
        file.write(f"# guests\n{ann}\n{bob}")

    for _ in range(2):
        assert deploy(home) == ours, "the key itself stays"
        assert lines(home) == [ours, "# guests", ann, bob]
    assert [key.name for key in read_keys(home / "api_key_hashes")] == ["autodl", "ann", "bob"]
    assert (home / "api_key_hashes").stat().st_mode & 0o777 == 0o600
    assert not (home / "api_key_hashes.part").exists()


def test_a_new_key_of_ours_takes_the_place_of_the_old_one(home: Path) -> None:
    before = deploy(home)
    ann = make_key("ann")[1].as_line()
    with (home / "api_key_hashes").open("a") as file:
        file.write(f"{ann}\n")
    (home / "api_key").unlink()

    after = deploy(home)
    assert after != before
    assert lines(home) == [after, ann]


def test_limits_that_were_given_to_our_key_stay(home: Path) -> None:
    limited = f"{deploy(home)} rpm=60"
    (home / "api_key_hashes").write_text(f"{limited}\n")
    deploy(home)
    assert lines(home) == [limited]
