"""The manual builds strictly, and says nothing of verbs and options that do not exist."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from manual_pages import DOCS, PAGES, ROOT, Line, duologue_lines, mentions, name_of
from typer.main import get_command

from duologue.cli.main import app

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
# Where the options of our other programs are read: shell scripts, argparse, images.
_OTHER_SOURCES = (
    "deploy",
    "docker",
    "finetune",
    "build_engines",
    "runtime",
    "tests/faults",
    "cli/doctor_trtllm.py",
)
# Options of programs that are not ours, beyond those that our scripts and images pass.
_STRANGERS = {
    *("--gpus", "--oversubscribe", "--bind-to", "--allow-run-as-root"),
    *("--enable-shared", "--rm", "--nproc_per_node"),
}


def _leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The command that some words name, and what is left for it."""
    command: Any = get_command(app)
    left = list(words)
    while hasattr(command, "commands"):
        while left and left[0] == "--debug":
            left.pop(0)
        if not left or left[0] not in command.commands:
            return command, left
        command = command.commands[left.pop(0)]
    return command, left


def _options(command: Any) -> set[str]:
    own = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    inner = getattr(command, "commands", {}).values()
    return own.union({"--help"}, *map(_options, inner))


@functools.cache
def _other_options() -> set[str]:
    found = set(_STRANGERS)
    for folder in _OTHER_SOURCES:
        for path in ((ROOT / folder), *(ROOT / folder).rglob("*")):
            if path.suffix in (".sh", ".py", ".yaml") or path.name.startswith("Dockerfile"):
                found.update(_OPTION.findall(path.read_text(encoding="utf-8")))
    return found


def _parse(line: Line) -> None:
    """Parse a command line without running it."""
    command, left = _leaf(line.words)
    if left == ["--help"]:
        return
    assert not hasattr(command, "commands"), f"no verb {left[:1]} in: {line.text}"
    with command.make_context("duologue", left):
        pass


def test_the_manual_builds_strictly(tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "MOSS-TTSD" in (site / "index.html").read_text(encoding="utf-8")


def test_the_navigation_names_every_page_once() -> None:
    def names(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        assert not isinstance(inner, int)
        return [name for each in inner for name in names(each)]  # type: ignore[attr-defined]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(names(nav)) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("line", duologue_lines(), ids=lambda line: f"{line.page.name}:{line.text}")
def test_a_documented_command_line_parses(line: Line) -> None:
    _parse(line)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serve --no-such-option", "No such option"),
        ("speak x.txt", "no verb"),
        ("say --seed x", "a valid integer"),
        ("stop 7", "unexpected extra argument"),
    ],
)
def test_the_check_finds_what_does_not_exist(words: str, says: str) -> None:
    # The parser's errors are of a module that typer keeps to itself.
    with pytest.raises(Exception, match=says):
        _parse(Line(ROOT, words))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_mentioned_verbs_and_options_exist(page: Path) -> None:
    ours = _options(get_command(app))
    theirs = _other_options()
    for text in mentions(page):
        unknown = set(_OPTION.findall(text)) - ours - theirs
        assert not unknown, f"`{text}` names {unknown}"
        if not text.startswith("duologue ") or "VERB" in text:
            continue
        command, left = _leaf(text.split()[1:])
        wrong = set(_OPTION.findall(" ".join(left))) - _options(command)
        assert not wrong, f"`{text}` names {wrong}"
        if hasattr(command, "commands") and left:
            assert left[0].startswith(("-", "...")), f"`{text}` names the verb {left[0]}"
