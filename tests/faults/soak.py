"""Mixed streams for minutes on end: flat memory, and no stream that hangs.

    python tests/faults/soak.py --minutes 10 --streams 32

It starts a server of its own, keeps so many streams running through HTTP and gRPC (short and long
ones, whole answers, events, slow readers, one in a hundred cancelled), prints the memory of every
process over time, and ends with status 1 when memory grew or a stream hung.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from live_serve import LiveServe, serving

from duologue.client import DialogueClient
from duologue.client.errors import DuologueError

say = functools.partial(print, flush=True)
# Nothing that is asked for here takes as long as this, however busy the machine is.
HANG_S = 240.0
SAMPLE_S = 5.0
# Growth from the median of the second quarter to that of the last one.
MAX_GROWTH = 0.05
MAX_GROWTH_BYTES = 16_000_000


@dataclass
class Soak:
    """What the callers have seen so far.

    Attributes:
        outcomes: of ended streams.
        running: caller -> when its stream began.
        ends_at_s: no caller begins another stream after it.
    """

    server: LiveServe
    ends_at_s: float
    outcomes: Counter[str] = field(default_factory=Counter)
    running: dict[int, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, caller: int) -> None:
        """One caller: a stream after the other."""
        chance = random.Random(caller)
        with DialogueClient(self.server.facts["grpc_url"], chunk_timeout_s=HANG_S) as client:
            while time.monotonic() < self.ends_at_s:
                self.running[caller] = time.monotonic()
                outcome = self._speak(client, chance)
                with self.lock:
                    self.outcomes[outcome] += 1
                del self.running[caller]

    def _speak(self, client: DialogueClient, chance: random.Random) -> str:
        text = "".join(f"[S{1 + i % 2}]And so on. " for i in range(chance.choice((1, 2, 8))))
        frames = chance.choice((10, 30, 60))
        kind = chance.choice(("grpc", "whole", "events", "slow"))
        try:
            if kind == "grpc":
                return self._by_grpc(client, text, frames, chance)
            return self._by_http(kind, text, frames, chance)
        except (DuologueError, HTTPException, OSError) as error:
            return f"{kind} {type(error).__name__}"

    def _by_grpc(
        self, client: DialogueClient, text: str, frames: int, chance: random.Random
    ) -> str:
        with client.stream(text, max_frames=frames, seed=chance.randrange(999)) as stream:
            for _ in stream:
                if chance.random() < 0.01:
                    return "grpc cancelled"
        return "grpc ok"

    def _by_http(self, kind: str, text: str, frames: int, chance: random.Random) -> str:
        formats = ("mp3", "opus", "wav", "pcm")
        body = {
            "input": text,
            "max_new_tokens": frames,
            "response_format": chance.choice(formats),
            "seed": chance.randrange(999),
        }
        if kind == "events":
            body["stream_format"] = "ndjson"
        with self.server.open("/v1/audio/dialogue", body) as answer:
            while answer.read(4096):
                if kind == "slow":
                    time.sleep(0.05)
                if chance.random() < 0.001:
                    return f"{kind} cancelled"
        return f"{kind} ok"


def memory_of(server: LiveServe) -> dict[str, int]:
    """Bytes of each process, and of the shared memory."""
    sizes = {"shm": server.shm_bytes()}
    for pid, name in server.processes().items():
        try:
            memory = psutil.Process(pid).memory_info()
        except psutil.NoSuchProcess:
            continue
        sizes[name] = sizes.get(name, 0) + memory.rss - memory.shared
    return sizes


def watch(soak: Soak) -> tuple[list[dict[str, int]], float]:
    """Print a line now and then; gives the samples, and the age of the oldest stream seen."""
    samples: list[dict[str, int]] = []
    oldest_s, begin = 0.0, time.monotonic()
    while time.monotonic() < soak.ends_at_s:
        samples.append(memory_of(soak.server))
        now = time.monotonic()
        oldest_s = max([oldest_s, *(now - began for began in list(soak.running.values()))])
        shown = " ".join(f"{name}:{size / 1e6:.0f}" for name, size in sorted(samples[-1].items()))
        done = sum(soak.outcomes.values())
        say(f"{now - begin:6.0f} s {done:5d} streams  MB {shown}")
        time.sleep(SAMPLE_S)
    return samples, oldest_s


def growth_of(samples: list[dict[str, int]], name: str) -> tuple[int, int]:
    """Medians of a process's memory in the second quarter and in the last."""
    sizes = [sample[name] for sample in samples if name in sample]
    quarter = max(1, len(sizes) // 4)
    early = sorted(sizes[quarter : 2 * quarter])
    late = sorted(sizes[-quarter:])
    return early[len(early) // 2], late[len(late) // 2]


def judge(samples: list[dict[str, int]], oldest_s: float, outcomes: Counter[str]) -> bool:
    """Print the table; whether all is well."""
    is_well = oldest_s < HANG_S
    say(f"oldest stream: {oldest_s:.1f} s (a stream hangs from {HANG_S:g} s on)")
    for name in sorted(samples[-1]):
        early, late = growth_of(samples, name)
        holds = late - early <= max(MAX_GROWTH * early, MAX_GROWTH_BYTES)
        is_well &= holds
        sizes = f"{early / 1e6:7.1f} -> {late / 1e6:7.1f} MB"
        say(f"{name:<18} {sizes}  {'flat' if holds else 'GROWS'}")
    for outcome, count in sorted(outcomes.items()):
        say(f"{outcome:<24} {count}")
        is_well &= outcome.endswith((" ok", " cancelled"))
    return is_well


def main() -> int:
    """Run it; status 1 when memory grew, a stream hung or failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=32)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), settings={"api": {"gap_timeout": 60}}) as server,
    ):
        soak = Soak(server, time.monotonic() + options.minutes * 60)
        callers = [
            threading.Thread(target=soak.call, args=(i,), daemon=True)
            for i in range(options.streams)
        ]
        for caller in callers:
            caller.start()
        samples, oldest_s = watch(soak)
        for caller in callers:
            caller.join(HANG_S)
        stuck = sum(caller.is_alive() for caller in callers)
        say(f"streams that never ended: {stuck}")
        return 0 if judge(samples, oldest_s, soak.outcomes) and not stuck else 1


if __name__ == "__main__":
    sys.exit(main())
