# SPDX-License-Identifier: Apache-2.0
"""Which precision and which attention the torch engine takes on a GPU, and what comes next.

| compute capability | GPUs | wanted bfloat16 becomes | attention |
|---|---|---|---|
| 8.0 and more | A100, L4, H100, RTX 30 and later | bfloat16 | flash, sdpa, eager |
| less | V100, T4 | float16, checked for overflow, else float32 | sdpa, eager |

"flash" is torch's own FlashAttention kernel, "sdpa" what its scaled_dot_product_attention picks,
and "eager" plain matrix products. Nothing here needs torch. The rules are tested with made-up
capabilities; no run on such a GPU stands behind them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal, TypeVar

import numpy as np

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.core import IntArray
from duologue.runtime.errors import ConfigError, EngineUnavailableError

_log = logging.getLogger(__name__)

Attention = Literal["flash", "sdpa", "eager"]
Capability = tuple[int, int]

DTYPES = ("float32", "float16", "bfloat16")
_FIRST_WITH_BFLOAT16 = (8, 0)
_FIRST_WITH_FLASH = (8, 0)
_PROBE_ROWS = 64
_PROBE_SEED = 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Precision:
    """One way to run the model.

    Attributes:
        dtype: of weights, activations and KV cache.
        attention: how attention is computed.
    """

    dtype: str
    attention: Attention


def precisions_for(
    wanted: str, capability: Capability, *, has_flash: bool, has_sdpa: bool = True
) -> tuple[Precision, ...]:
    """All ways to run a model on a GPU, the best first; each stands in for those before it.

    Args:
        wanted: precision of the weights in the bundle.
        capability: of the GPU, as CUDA numbers it.
        has_flash: torch was built with FlashAttention.
        has_sdpa: torch has scaled_dot_product_attention.

    Raises:
        ConfigError: the precision is unknown.

    >>> precisions_for("bfloat16", (8, 6), has_flash=True)[0]
    Precision(dtype='bfloat16', attention='flash')
    >>> [(p.dtype, p.attention) for p in precisions_for("bfloat16", (7, 5), has_flash=True)]
    [('float16', 'sdpa'), ('float16', 'eager'), ('float32', 'sdpa'), ('float32', 'eager')]
    """
    if wanted not in DTYPES:
        raise ConfigError(f"dtype is {wanted!r}; allowed: {', '.join(DTYPES)}")
    is_lacking = wanted == "bfloat16" and capability < _FIRST_WITH_BFLOAT16
    first = "float16" if is_lacking else wanted
    dtypes = dict.fromkeys((first, "float32"))
    return tuple(
        Precision(dtype, attention)
        for dtype in dtypes
        for attention in _attentions(dtype, capability, has_flash, has_sdpa)
    )


def _attentions(
    dtype: str, capability: Capability, has_flash: bool, has_sdpa: bool
) -> Iterator[Attention]:
    if has_sdpa:
        # The kernel knows half precision only.
        if has_flash and capability >= _FIRST_WITH_FLASH and dtype != "float32":
            yield "flash"
        yield "sdpa"
    yield "eager"


def settle(wanted: str, precisions: Sequence[Precision], attempt: Callable[[Precision], _T]) -> _T:
    """Take the first precision that works, and say which one it is.

    Args:
        wanted: precision of the weights in the bundle, for the message.
        precisions: from `precisions_for`.
        attempt: loads and tries the model. It raises `OverflowError` where numbers are too
            large for the precision, and any other `RuntimeError` where the attention does not
            run here.

    Returns:
        What the attempt gave.

    Raises:
        EngineUnavailableError: none of them works; says why not.
    """
    reasons: list[str] = []
    for dtype, ways in groupby(precisions, key=attrgetter("dtype")):
        for precision in ways:
            try:
                loaded = attempt(precision)
            except OverflowError as error:
                reasons.append(f"{dtype}: {error}")
                # Another attention does not make the numbers smaller.
                break
            except RuntimeError as error:
                reasons.append(f"{dtype} with {precision.attention} attention: {error}")
                continue
            _tell(wanted, precision, reasons)
            return loaded
    raise EngineUnavailableError(f"engine torch does not run on this GPU ({'; '.join(reasons)})")


def _tell(wanted: str, precision: Precision, reasons: list[str]) -> None:
    chosen = f"{precision.dtype} with {precision.attention} attention"
    if precision.dtype == wanted and not reasons:
        _log.info("the language model runs in %s", chosen)
        return
    why = "; ".join(reasons) or f"this GPU has no {wanted}"
    _log.warning("the language model runs in %s instead of %s: %s", chosen, wanted, why)


def check_overflow(backbone: Backbone) -> None:
    """Read a trial prompt and see to it that only finite numbers come out.

    Args:
        backbone: with an empty slot 0, which is empty again afterwards.

    Raises:
        OverflowError: a number is not finite.
    """
    spec = backbone.spec
    rng = np.random.default_rng(_PROBE_SEED)
    num_rows = min(_PROBE_ROWS, spec.max_rows - 1)
    ids: IntArray = rng.integers(0, spec.lm.vocab_sizes, (num_rows + 1, spec.lm.num_channels))
    first = backbone.prefill(0, ids[:num_rows])
    second = backbone.decode([0], ids[num_rows:])
    backbone.release(0)
    assert first is not None, "the last piece of a prompt gives logits"
    if not (np.isfinite(first.values).all() and np.isfinite(second.values).all()):
        raise OverflowError("numbers of the model are too large for it")
