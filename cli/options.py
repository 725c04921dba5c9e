# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, and the choices they allow."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class EngineChoice(str, Enum):
    """Engines of the language model."""

    AUTO = "auto"
    ONNX = "onnx"
    TORCH = "torch"
    TRTLLM = "trtllm"
    NUMPY = "numpy"


class CodecEngineChoice(str, Enum):
    """Engines of the codec."""

    AUTO = "auto"
    ONNX = "onnx"
    TORCH = "torch"


class NormalizationChoice(str, Enum):
    """Text rules applied to each turn."""

    NONE = "none"
    V0_7 = "v0.7"
    V1_0 = "v1.0"


class FrontendChoice(str, Enum):
    """How numbers, dates and units are written out."""

    NONE = "none"
    ZH_EN = "zh_en"


class ModeChoice(str, Enum):
    """The whole script in one pass, or turn by turn."""

    AUTO = "auto"
    ONE_PASS = "one_pass"
    TURNS = "turns"


BundleOption = Annotated[
    str, typer.Option("--bundle", metavar="DIR", help="Folder of the model, or 'default'.")
]
EngineOption = Annotated[
    EngineChoice, typer.Option("--engine", help="Engine of the language model.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the summary as one JSON object on one line.")
]
