# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from fake_house import (
    THREE_CHUNKS,
    THREE_PCM_CHUNKS,
    FakeGateway,
    FakeServer,
    FakeSpeaker,
    write_bundle,
)
from typer.testing import CliRunner

from duologue.cli.doors import Doors
from duologue.cli.main import app


class House:
    """The fakes behind the doors, and a way to call the program with them."""

    def __init__(self, bundle_dir):
        self.bundle_dir = bundle_dir
        self.client = FakeSpeaker(THREE_CHUNKS)
        self.synthesizer = FakeSpeaker(THREE_PCM_CHUNKS)
        self.server = FakeServer()
        self.gateway = FakeGateway()
        self.reason = None
        self.player = None
        self.urls = []
        self.keys = []

    def _connect(self, url, *, api_key=None):
        self.urls.append(url)
        self.keys.append(api_key)
        return self.client

    def run(self, *arguments, **kwargs):
        doors = Doors(
            connect=self._connect,
            start_server=lambda bundle_dir, **options: self.server.describe_as(bundle_dir, options),
            start_gateway=self.gateway.describe,
            why_not_embedded=lambda: self.reason,
            load_synthesizer=lambda bundle, *, engine: self.synthesizer,
            resolve_bundle=lambda name: self.bundle_dir,
            find_player=lambda: self.player,
        )
        return CliRunner().invoke(app, [str(a) for a in arguments], obj=doors, **kwargs)


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    return House(write_bundle(folder, trained=True))
