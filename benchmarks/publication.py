# SPDX-License-Identifier: Apache-2.0
"""The standard set of measurements: what `duologue bench all` runs, verb by verb."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publication:
    """How thorough the set is.

    Attributes:
        engines, batches, contexts: of `bench engine`, as on its command line.
        concurrency: levels of the closed loop.
        real_time: levels of callers that listen in real time.
        rates: levels of the open loop, per second.
        requests: measured requests per level.
        max_seconds: cap on the audio of a streamed request.
        offline: dialogues of `bench offline`.
    """

    engines: str = "onnx,torch"
    batches: str = "1,2,4,8,16,32"
    contexts: str = "100,1000,4000"
    concurrency: str = "1,2,4,8,16,32"
    real_time: str = "4,16"
    rates: str = "0.5,1,2"
    requests: int = 200
    max_seconds: int = 30
    offline: str = "en_30s,zh_30s,en_60s_voices,zh_60s_voices,en_120s,zh_120s"

    def commands(self, bundle: str) -> dict[str, list[str]]:
        """Name of the result -> arguments of `duologue bench`, in the order to run them in."""
        model = ["--bundle", bundle]
        requests = ["--requests", str(self.requests)]
        cap = ["--max-seconds", str(self.max_seconds)]
        # Short, so that a level of 200 requests that each last as long as they sound ends.
        listen = ["--real-time", "--max-seconds", "10"]
        sizes = ["--batch", self.batches, "--context", self.contexts]
        return {
            "engine": ["engine", *model, "--engines", self.engines, *sizes],
            "stream": ["stream", *model, "--concurrency", self.concurrency, *requests, *cap],
            "real_time": ["stream", *model, "--concurrency", self.real_time, *requests, *listen],
            "open": ["stream", *model, "--rate", self.rates, *requests, *cap],
            "door": ["door", *model, *requests, "--max-seconds", "10"],
            "offline": ["offline", *model, "--workloads", self.offline],
        }


FULL = Publication()
QUICK = Publication(
    batches="1,8",
    contexts="100",
    concurrency="1,2",
    real_time="1",
    rates="1",
    requests=4,
    max_seconds=3,
    offline="en_30s,zh_30s_voices",
)
"""Shows within minutes whether everything runs; too few requests to say anything else."""
