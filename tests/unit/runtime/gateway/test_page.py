from __future__ import annotations

import re
from typing import Any

import pytest

from duologue.runtime.gateway.page import STATIC_DIR

FILES = sorted(path.name for path in STATIC_DIR.iterdir())


def test_the_page_lets_nothing_from_elsewhere_in(gateway: Any) -> None:
    answer = gateway.call("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"https?://|<style|style=|onclick|<script>", answer.body.decode())


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_and_names_nothing_that_is_missing(gateway: Any, name: str) -> None:
    text = gateway.call(f"/static/{name}").body.decode()
    assert text == (STATIC_DIR / name).read_text()
    assert set(re.findall(r"[\w]+\.(?:js|css)\b", text)) <= set(FILES)


def test_every_control_has_a_label_and_every_id_of_the_script_exists(gateway: Any) -> None:
    html = gateway.call("/").body.decode()
    ids = set(re.findall(r'id="(\w+)"', html))
    script = (STATIC_DIR / "app.js").read_text()
    assert set(re.findall(r'\$\("(\w+)"\)', script)) <= ids
    controls = re.findall(r"<(?:input|select|textarea) id=\"(\w+)\"", html)
    for control in controls:
        wrapped = re.search(rf'<label>[^<]+<\w+ id="{control}"', html)
        assert wrapped or f'for="{control}"' in html, control


@pytest.mark.parametrize(
    "path", ["/static/../page.py", "/static/%2e%2e/page.py", "/static//etc/passwd", "/static/"]
)
def test_no_path_leads_out_of_the_folder(gateway: Any, path: str) -> None:
    assert gateway.call(path).status == 404


def test_the_page_needs_no_key_and_what_it_asks_for_does(open_gateway: Any) -> None:
    gateway = open_gateway(auth={"keys": ["sk-1"]})
    assert gateway.call("/").status == 200
    assert gateway.call("/status").json["active_streams"] == 0
    assert gateway.call("/v1/audio/voices").status == 401
