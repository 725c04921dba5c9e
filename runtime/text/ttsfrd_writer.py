# SPDX-License-Identifier: Apache-2.0
"""The front end of CosyVoice, `ttsfrd`, in the place of our own where somebody has it.

It is a closed wheel for a few Pythons with a folder of resources, which come with the models of
CosyVoice. It is used when it is installed and DUOLOGUE_TTSFRD_RESOURCE names that folder. The
calls are those of CosyVoice's own front end (FunAudioLLM/CosyVoice, cosyvoice/cli/frontend.py).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from duologue.runtime.errors import ConfigError, EngineUnavailableError

RESOURCE_VARIABLE = "DUOLOGUE_TTSFRD_RESOURCE"
MODULE = "ttsfrd"
# Chinese with English words in it, as CosyVoice sets it.
_LANGUAGE = "pinyinvg"


def ttsfrd_resource(environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder of resources that was named, or None.

    Args:
        environment: None takes the process's own.

    Raises:
        ConfigError: what was named is no folder.
        EngineUnavailableError: a folder was named, and the package is not installed.
    """
    value = (os.environ if environment is None else environment).get(RESOURCE_VARIABLE)
    if not value:
        return None
    folder = Path(value)
    if not folder.is_dir():
        raise ConfigError(f"{RESOURCE_VARIABLE} is {value!r}, which is no folder")
    if importlib.util.find_spec(MODULE) is None:
        raise EngineUnavailableError(
            f"{RESOURCE_VARIABLE} is set, and the package {MODULE} is not installed: install its "
            "wheel, which comes with CosyVoice-ttsfrd, or unset the variable"
        )
    return folder


@lru_cache(maxsize=1)
def load_ttsfrd(resource: Path) -> Callable[[str], str]:
    """A function that writes out the numbers of a stretch of text, in both languages.

    Args:
        resource: the folder of resources.

    Returns:
        Text to text; a stretch for which the library has no sentence stays as it is.

    Raises:
        ConfigError: the library does not take the folder.
        EngineUnavailableError: the installed package is another of the same name.
    """
    module = importlib.import_module(MODULE)
    # The package index has an unrelated package of this name.
    if not hasattr(module, "TtsFrontendEngine"):
        raise EngineUnavailableError(
            f"the installed package {MODULE} is not the one of CosyVoice: install the wheel that "
            f"comes with CosyVoice-ttsfrd, or unset {RESOURCE_VARIABLE}"
        )
    engine: Any = module.TtsFrontendEngine()
    if not engine.initialize(str(resource)):
        raise ConfigError(f"ttsfrd cannot read its resources in {resource}")
    engine.set_lang_type(_LANGUAGE)
    lock = threading.Lock()  # the library says nothing about threads

    def write(text: str) -> str:
        with lock:
            answer: Any = json.loads(engine.do_voicegen_frd(text))
        sentences = answer.get("sentences") or []
        return "".join(str(sentence["text"]) for sentence in sentences) or text

    return write
