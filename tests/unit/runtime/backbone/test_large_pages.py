"""Memory that is taken for weights moves to large pages, and nothing else does."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime.backbone import large_pages, onnx_session
from duologue.runtime.backbone.large_pages import LARGE_PAGE_BYTES, on_large_pages
from duologue.runtime.errors import ConfigError

_SMAPS = """\
00400000-00c00000 r-xp 00000000 08:01 77 /usr/bin/python
Rss:                8192 kB
01000000-02000000 rw-p 00000000 00:00 0                  [heap]
Size:              16384 kB
Rss:               16000 kB
AnonHugePages:         0 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Rss:                  40 kB
7f1000000000-7f1000800000 rw-p 00000000 00:00 0
Rss:                8192 kB
7f2000000000-7f2000800000 rw-s 00000000 00:05 12 /dev/zero (deleted)
Rss:                8192 kB
7f3000000000-7f3000800000 rw-p 00000000 08:01 99 /tmp/weights
Rss:                8192 kB
"""
_ranges = st.lists(st.integers(0, 40), unique=True, max_size=12).map(
    lambda borders: list(zip(sorted(borders)[::2], sorted(borders)[1::2], strict=False))
)


def test_private_memory_that_is_in_use_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a thread's stack, which is hardly touched, nor what belongs to a file."""
    monkeypatch.setattr(large_pages, "_MEMORY", tmp_path / "smaps")
    (tmp_path / "smaps").write_text(_SMAPS, encoding="utf-8")
    wanted = [(0x1000000, 0x2000000), (0x7F1000000000, 0x7F1000800000)]
    assert large_pages._mappings() == wanted


@given(_ranges, _ranges)
def test_whole_pages_that_are_new_are_moved(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    """In quarters of a large page."""
    quarter = LARGE_PAGE_BYTES // 4
    scaled = [[(a * quarter, b * quarter) for a, b in ranges] for ranges in (before, after)]
    found = list(large_pages._new_ranges(*scaled))
    moved = [page for a, b in found for page in range(a // quarter, b // quarter, 4)]
    old = {number for a, b in before for number in range(a, b)}
    wanted = [
        page
        for page in range(0, 40, 4)
        if any(a <= page and page + 4 <= b for a, b in after)
        and old.isdisjoint(range(page, page + 4))
    ]
    assert moved == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="asked of Linux only")
def test_memory_moves_and_what_lies_in_it_stays() -> None:
    wanted = np.random.default_rng(0).integers(0, 256, 6 * LARGE_PAGE_BYTES, dtype=np.uint8)
    with on_large_pages():
        memory = mmap.mmap(-1, wanted.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory[:] = wanted.tobytes()
    found = np.frombuffer(memory, np.uint8)
    np.testing.assert_array_equal(found, wanted)
    if _large_kib(found.ctypes.data) == 0:
        pytest.skip("this kernel moved nothing")


def _large_kib(address: int) -> int:
    """Of the mapping around an address, how much lies on large pages."""
    is_meant = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            start, stop = (int(border, 16) for border in key.split("-"))
            is_meant = start <= address < stop
        elif is_meant and key == "AnonHugePages:":
            return int(values[0])
    return 0


@pytest.mark.parametrize("setting", ["always madvise [never]\n", None])
def test_nothing_is_asked_where_large_pages_are_switched_off_or_unknown(
    setting: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_pages, "_SETTING", tmp_path / "enabled")
    monkeypatch.setattr(large_pages, "_mappings", lambda: pytest.fail("memory was looked at"))
    if setting is not None:
        (tmp_path / "enabled").write_text(setting, encoding="ascii")
    with on_large_pages():
        pass


def test_a_graph_that_cannot_be_loaded_is_named_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    @contextlib.contextmanager
    def note() -> Iterator[None]:
        asked.append(True)
        with on_large_pages():
            yield

    monkeypatch.setattr(onnx_session, "on_large_pages", note)
    (tmp_path / "broken.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ConfigError, match=r"broken\.onnx cannot be loaded"):
        onnx_session.OnnxSession(tmp_path / "broken.onnx")
    assert asked
