# SPDX-License-Identifier: Apache-2.0
"""How long a server's codec has run, from Triton's own statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from duologue.client.contract import DECODER_MODEL
from duologue.client.rpc import split_scheme

_TIMEOUT_S = 2.0
_NANOSECONDS = 1e-9

CodecClock = Callable[[], float | None]


def codec_clock(url: str) -> CodecClock:
    """A function that asks the server at `url` for its codec's seconds so far.

    It gives None where the server does not tell: the codec may run in another way there.
    """

    def seconds() -> float | None:
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        client = InferenceServerClient(split_scheme(url))
        try:
            statistics = client.get_inference_statistics(
                DECODER_MODEL, as_json=True, client_timeout=_TIMEOUT_S
            )
        except InferenceServerException:
            return None
        finally:
            client.close()
        return decoder_seconds(statistics)

    return seconds


def decoder_seconds(statistics: dict[str, Any]) -> float | None:
    """Seconds that batches of the decoder took, each batch counted once whatever its size.

    (Triton's counters per request count a batch of 8 eight times.)

    >>> batch = {"batch_size": "8", "compute_infer": {"count": "3", "ns": "500000000"}}
    >>> decoder_seconds({"model_stats": [{"batch_stats": [batch, batch]}]})
    1.0
    >>> decoder_seconds({}) is None
    True
    """
    models = statistics.get("model_stats", [])
    if not models:
        return None
    batches = [batch for model in models for batch in model.get("batch_stats", [])]
    return sum(int(batch["compute_infer"].get("ns", 0)) for batch in batches) * _NANOSECONDS
