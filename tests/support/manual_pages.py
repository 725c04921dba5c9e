"""The pages of the manual, and the command lines that stand on them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (
    *sorted(DOCS.glob("*.md")),
    *(
        ROOT / name
        for name in (
            *("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "docker/README.md"),
            *("deploy/monitoring/README.md", "model_repository/README.md"),
        )
    ),
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = ("", "bash", "sh", "console")
_PROGRAMS = (
    *("duologue", "make", "python", "curl", "docker", "mpirun", "bash", "ssh", "cp", "pip"),
    *("apt", "apt-get", "promtool", "prometheus"),
)
_VARIABLE = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Line:
    """A command line of a page; `text` has single blanks and no comment."""

    page: Path
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """What stands between fences of these languages."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for language, body in found if language in languages]


def command_lines(page: Path) -> list[Line]:
    """Every command line of a page, fenced or indented, joined where it is continued."""
    text = page.read_text(encoding="utf-8")
    indented = [row[4:] for row in _FENCE.sub("", text).splitlines() if row.startswith("    ")]
    rows = "\n".join([*blocks(page, *_SHELL), *indented]).replace("\\\n", " ").splitlines()
    lines = [" ".join(re.split(r"\s+#\s", row)[0].split()) for row in rows]
    return [Line(page, line.removeprefix("!")) for line in lines if _is_command(line)]


def duologue_lines() -> list[Line]:
    """Every line that calls duologue, alone or behind another program."""
    return [
        Line(line.page, shlex.join(_behind_duologue(line.words)))
        for page in PAGES
        for line in command_lines(page)
        if any(_is_duologue(word) for word in line.words)
    ]


def mentions(page: Path) -> list[str]:
    """What a page says between backticks, outside of blocks."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"`([^`\n]+)`", prose)


def _is_command(row: str) -> bool:
    words = [word for word in row.removeprefix("!").split() if not _VARIABLE.fullmatch(word)]
    first = words[0] if words else ""
    is_script = bool(re.fullmatch(r"(docker|deploy|\.venv|tests|\.ci)/\S+", first))
    # A word alone may be part of a drawing; every program here is told what to do.
    return is_script or (first in _PROGRAMS and len(words) > 1)


def _is_duologue(word: str) -> bool:
    return word in ("duologue", ".venv/bin/duologue")


def _behind_duologue(words: list[str]) -> list[str]:
    return words[next(i for i, word in enumerate(words) if _is_duologue(word)) + 1 :]
