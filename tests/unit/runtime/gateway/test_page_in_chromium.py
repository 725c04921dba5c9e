"""The page in a real browser: by keyboard, at the width of a phone and of a desk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from browser import CHROMIUM, Browser, wait_until
from live_gateway import Gateway
from scripted_client import ScriptedClient, tone

from duologue.models import resolve_bundle
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

CTRL = 2
STATUS = "#status"
NOW = "[...document.querySelectorAll('#turns li')].findIndex(x => x.classList.contains('now'))"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that takes voices."""
    folder = tmp_path_factory.mktemp("storage")
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": folder / "voices", "cache_dir": folder / "cache"},
    }
    client = ScriptedClient()
    settings = load_settings(flags=flags, environment={})
    bundle = resolve_bundle("noise")
    with GatewayServer(settings, client=client, bundle_dir=bundle, grace_s=2) as server:
        yield Gateway(server, client)


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


def test_two_voices_are_added_by_keyboard_and_spoken_with(
    browser: Browser, gateway: Gateway, tmp_path: Path
) -> None:
    width = browser.run("innerWidth")
    browser.run("document.querySelector('#add summary').focus()")
    browser.press("Enter", 13)
    assert browser.run("document.querySelector('#add details').open") is True
    assert browser.run("document.documentElement.scrollWidth") <= width
    for number, name in ((1, f"Ann{width}"), (2, f"宝{width}")):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, tone(0, 24_000 * 3) // number, 24_000)
        browser.choose_file("#addFile", path)
        browser.run(f"document.querySelector('#addName').value = {name!r}")
        browser.run(f"document.querySelector('#addFor').value = '{number}'")
        browser.run("document.querySelector('#addConsent').checked = true")
        browser.run("document.querySelector('#addName').focus()")
        browser.press("Enter", 13)
        wait_until(lambda n=name, k=number: browser.text("#addStatus") == f"{n} is S{k} now")
        assert browser.run(f"document.querySelector('#voice{number}').value") == name
    assert browser.run("document.documentElement.scrollWidth") <= width
    write(browser, "[S1]Tea?[S2]Coffee.")
    browser.press("Enter", 13, CTRL)
    wait_until(lambda: browser.text(STATUS) == "done")
    voices = gateway.asked[1]["voices"]
    assert voices[1].codes.shape == voices[2].codes.shape
    assert (voices[1].codes != voices[2].codes).any()
    if (folder := os.environ.get("SCREENSHOTS")) is not None:
        browser.screenshot(Path(folder) / f"voices-{width}.png")


def test_a_recording_that_is_none_is_refused_in_words(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF no audio at all")
    browser.run("document.querySelector('#add details').open = true")
    browser.choose_file("#addFile", path)
    browser.run("document.querySelector('#addName').value = 'Eve'")
    browser.run("document.querySelector('#addConsent').checked = true")
    browser.run("document.querySelector('#addVoice').click()")
    wait_until(lambda: browser.run("document.querySelector('#addStatus.fault') !== null"))
    assert browser.text("#addStatus")
    browser.faults.clear()


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
    for _ in range(10):
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.tagName"))
    wanted = ["script", "voice1", "voice2", "speed", "seed", "SUMMARY", "speak", "SUMMARY"]
    assert reached[: len(wanted)] == wanted
