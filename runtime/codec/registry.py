# SPDX-License-Identifier: Apache-2.0
"""Which engine the codec runs on.

What a bundle says about its codec engines, in `Bundle.engines`:

| key | value |
|---|---|
| `codec_onnx` | `{"encoder": "codec_encoder.onnx", "decoder": "codec_decoder.onnx"}` |
| `codec_torch` | `{"weights": "codec.safetensors"}` |

Paths are relative to the bundle. Other entries (dtype, status, ...) are for people.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from duologue.runtime.codec.base import Codec
from duologue.runtime.config import Bundle, CodecConfig
from duologue.runtime.errors import ConfigError, EngineUnavailableError

ONNX_KEY = "codec_onnx"
TORCH_KEY = "codec_torch"

ENGINES = ("auto", "onnx", "torch")
AUTO = "auto"
DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")

# Where a driver shows itself. Importing torch takes seconds: the system is asked first.
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
_GPU_BACKBONES = ("torch", "trtllm")

_WHEELS = {ONNX_KEY: "onnxruntime", TORCH_KEY: "torch"}
_EXTRAS = {ONNX_KEY: "duologue[cpu]", TORCH_KEY: "duologue[gpu]"}


@dataclass(frozen=True, slots=True)
class CodecPlace:
    """Which codec engine runs, and where.

    Attributes:
        engine: "onnx" or "torch".
        device: "cpu", "cuda" or "cuda:N".
    """

    engine: str
    device: str


def choose_place(bundle: Bundle, engine: str = AUTO, device: str = AUTO) -> CodecPlace:
    """Settle what is left to be chosen; nothing is loaded yet.

    Args:
        bundle: its description.
        engine: one of `ENGINES`.
        device: "cpu", "cuda" or "cuda:N"; "auto" is the GPU where there is one that the installed
            torch can use, and the bundle has a codec for torch; else the CPU.

    Raises:
        EngineUnavailableError: the engine does not run on the device, torch sees no GPU, or the
            bundle was built without the engine.
        ConfigError: the engine or the device is unknown.
    """
    if engine not in ENGINES:
        raise ConfigError(f"codec engine is {engine!r}; allowed: {ENGINES}")
    if DEVICES.fullmatch(device) is None:
        raise ConfigError(f"codec device is {device!r}; allowed: auto, cpu, cuda or cuda:N")
    if device == AUTO:
        fits = engine in (AUTO, "torch") and TORCH_KEY in bundle.engines
        device = "cuda" if fits and sees_gpu() else "cpu"
    key = _choose(bundle, engine, device)
    _check_fit(key, device)
    if device != "cpu" and not sees_gpu():
        raise EngineUnavailableError(
            f"the codec is to run on {device}, and no torch here sees a GPU;"
            " `duologue doctor` says why. Allowed without one: auto or cpu"
        )
    return CodecPlace(_name(key), device)


def has_driver() -> bool:
    """Whether the driver of a GPU shows itself, whatever can use it."""
    return any(path.exists() for path in _GPU_FILES)


def sees_gpu() -> bool:
    """Whether the installed torch can use a GPU of this machine."""
    if not has_driver() or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _check_fit(key: str, device: str) -> None:
    if device != "cpu" and key == ONNX_KEY:
        raise EngineUnavailableError(
            f"codec engine onnx runs on cpu, not on {device}; use engine torch"
        )


def load_codec(
    bundle: Bundle,
    bundle_dir: Path,
    engine: str = "auto",
    *,
    device: str = "cpu",
    num_threads: int = 1,
) -> Codec:
    """Load the codec of a bundle; the engine's wheel is imported only here.

    Args:
        bundle: its description.
        bundle_dir: where its files lie.
        engine: one of `ENGINES`. "auto" takes, of what the bundle holds and this interpreter
            can import, onnx on a CPU and torch on a GPU.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: rows that the onnx engine works on at the same time.

    Raises:
        EngineUnavailableError: the wheel is not installed, the engine does not run on the
            device, or the bundle was built without it.
        ConfigError: the engine is unknown, or its files are missing or damaged.
    """
    if engine not in ENGINES:
        raise ConfigError(f"codec engine is {engine!r}; allowed: {ENGINES}")
    key = _choose(bundle, engine, device)
    _check_fit(key, device)
    if importlib.util.find_spec(_WHEELS[key]) is None:
        raise EngineUnavailableError(
            f"codec engine {_name(key)} needs {_WHEELS[key]};"
            f" install it with: pip install '{_EXTRAS[key]}'"
        )
    entry = bundle.engines[key]

    def file(name: str) -> Path:
        value = entry.get(name)
        if not isinstance(value, str):
            raise ConfigError(f"engines.{key}.{name} is {value!r}; allowed: a file name")
        return bundle_dir / value

    if key == ONNX_KEY:
        return _load_onnx(bundle.codec, file, num_threads)
    return _load_torch(bundle.codec, file, device)


def near_device(bundle: Bundle, backbone_engine: str) -> str:
    """Where a codec runs best beside a language model.

    Args:
        bundle: its description.
        backbone_engine: engine of the language model that is loaded already.

    Returns:
        "cuda" where the language model uses torch, which sees a GPU, and the bundle has a codec
        for it; else "cpu".
    """
    if backbone_engine not in _GPU_BACKBONES or TORCH_KEY not in bundle.engines:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _choose(bundle: Bundle, engine: str, device: str) -> str:
    order = (ONNX_KEY, TORCH_KEY) if device == "cpu" else (TORCH_KEY,)
    wanted = order if engine == "auto" else (f"codec_{engine}",)
    built = [key for key in wanted if key in bundle.engines]
    if not built:
        held = sorted(_name(key) for key in bundle.engines if key in _WHEELS)
        raise EngineUnavailableError(
            f"bundle {bundle.name} holds no codec engine {' or '.join(map(_name, wanted))} for"
            f" {device}; it was built with: {', '.join(held) or 'none'}"
        )
    usable = [key for key in built if importlib.util.find_spec(_WHEELS[key]) is not None]
    return (usable or built)[0]


def _name(key: str) -> str:
    prefix = "codec_"
    return key[len(prefix) :]


def _load_onnx(config: CodecConfig, file: Callable[[str], Path], num_threads: int) -> Codec:
    from duologue.runtime.codec.onnx_codec import OnnxCodec

    return OnnxCodec(config, file("encoder"), file("decoder"), num_threads=num_threads)


def _load_torch(config: CodecConfig, file: Callable[[str], Path], device: str) -> Codec:
    import torch

    from duologue.runtime.codec.torch_codec import TorchCodec

    try:
        return TorchCodec(config, file("weights"), device=device)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the codec does not fit into the memory of {device} beside the language model: "
            "lower --max-slots, or limits.max_rows of the bundle, or leave the codec on the CPU "
            "(--codec-device cpu)"
        ) from error
