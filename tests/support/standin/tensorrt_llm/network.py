"""The network that is being built: declared inputs, marked outputs, and the layers in order."""

from __future__ import annotations

from typing import Any


class Network:
    def __init__(self, plugin_config: Any) -> None:
        self.plugin_config = plugin_config
        self.inputs: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, str] = {}
        self.steps: list[str] = []


_current: list[Network] = []


def start(plugin_config: Any) -> Network:
    _current[:] = [Network(plugin_config)]
    return _current[0]


def default_net() -> Network:
    return _current[0]
