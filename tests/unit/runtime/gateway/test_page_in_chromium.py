"""The page in a real browser: by keyboard, at the width of a phone and of a desk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

CTRL = 2
STATUS = "#status"
NOW = "[...document.querySelectorAll('#turns li')].findIndex(x => x.classList.contains('now'))"


@pytest.fixture(params=[(390, 844), (1100, 800)], ids=["phone", "desk"])
def browser(gateway: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(tmp_path / "profile", *request.param) as browser:
        browser.open(gateway.url)
        wait_until(lambda: browser.run("document.querySelectorAll('#voice1 option').length") > 10)
        yield browser
        assert browser.faults == []


def write(browser: Browser, script: str) -> None:
    browser.run(f"document.querySelector('#script').value = {script!r}")
    browser.run("document.querySelector('#script').focus()")


def test_a_script_is_spoken_by_keyboard_and_its_turns_light_up(browser: Browser) -> None:
    width = browser.run("innerWidth")
    assert browser.run("document.documentElement.scrollWidth") <= width
    write(browser, "[S1]Tea?[S2]Coffee.")
    browser.press("Enter", 13, CTRL)
    lit = set()

    def is_done() -> bool:
        lit.add(browser.run(NOW))
        return browser.text(STATUS) == "done"

    wait_until(is_done)
    assert lit >= {0, 1}
    assert browser.run("[...document.querySelectorAll('#turns li')].map(x => x.textContent)") == [
        "S1Tea?",
        "S2Coffee.",
    ]
    assert browser.text("#ttfa").endswith(" ms")
    assert browser.text("#made").startswith("1.5 s")
    assert browser.run("document.querySelector('#download').href").startswith("blob:")
    assert browser.run("document.documentElement.scrollWidth") <= width
    drawn = (
        "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x > 0))"
        "(document.querySelector('canvas'))"
    )
    assert browser.run(drawn) is True


def test_escape_stops_and_cancels(browser: Browser, gateway: Any) -> None:
    write(browser, "[S1]hold")
    browser.press("Enter", 13, CTRL)
    wait_until(lambda: browser.text(STATUS) == "speaking")
    stream = gateway.client.streams[-1]
    browser.press("Escape", 27)
    wait_until(lambda: browser.text(STATUS) == "stopped")
    wait_until(lambda: stream.is_left)
    assert browser.run("document.querySelector('#speak').disabled") is False


def test_an_error_is_shown_in_words(browser: Browser) -> None:
    write(browser, "[S1]refuse")
    browser.press("Enter", 13, CTRL)
    wait_until(lambda: "the speaker 3 is unknown" in browser.text(STATUS))
    # The browser itself notes every answer that is an error.
    browser.faults.clear()


def test_every_control_is_reached_by_the_tab_key(browser: Browser) -> None:
    browser.run("document.activeElement.blur()")
    reached = []
    for _ in range(9):
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.tagName"))
    wanted = ["script", "voice1", "voice2", "speed", "seed", "SUMMARY", "speak"]
    assert reached[: len(wanted)] == wanted
