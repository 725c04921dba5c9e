# SPDX-License-Identifier: Apache-2.0
"""The bundle speaks the items, several at a time, and what it says is kept."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.evaluate.chunks import join_chunks
from duologue.finetune.evaluate.espeak_cache import EspeakCache
from duologue.finetune.evaluate.items import Item, Suite, planned
from duologue.finetune.evaluate.measures import Generated
from duologue.finetune.evaluate.renderings import has_generated, read_generated, write_generated
from duologue.finetune.speech_data.dialogues import PlannedDialogue
from duologue.models import resolve_bundle
from duologue.runtime.core import SamplingOverrides, SpeechRequest, Voice
from duologue.runtime.stream import SpeechStream
from duologue.runtime.synthesizer import Synthesizer
from duologue.runtime.voices import ReferenceAudio, encode_voice

_NAME_DIGITS = 12


@dataclass(frozen=True, slots=True)
class SpeakingPlan:
    """How items are spoken.

    Attributes:
        bundle: "default" or a folder.
        folder: what is said is kept below it, apart for every bundle, seed and way to sample.
        engine: of the language model.
        num_streams: items that are spoken at the same time.
        greedy: the most likely id everywhere, instead of the bundle's sampling.
        seed: of the first item of a suite; the next ones count on.
        max_frames: cap on frames, where the item has none; None leaves it to the text's length.
    """

    bundle: str | Path
    folder: Path
    engine: str = "onnx"
    num_streams: int = 4
    greedy: bool = False
    seed: int = 1
    max_frames: int | None = None

    @property
    def speech_dir(self) -> Path:
        """Where the speech of this very bundle lies.

        Raises:
            ConfigError: no such bundle.
        """
        description = (resolve_bundle(self.bundle) / "bundle.json").read_bytes()
        said = description + repr((self.greedy, self.seed, self.max_frames)).encode()
        return self.folder / hashlib.sha256(said).hexdigest()[:_NAME_DIGITS]


def clips_of(item: Item) -> dict[int, PlannedDialogue]:
    """Speaker -> the reference clip that the model is given, as its voice speaks it."""
    language = item.dialogue.language
    return {
        speaker: planned("clip", language, [(speaker, text)], item.dialogue.voices)
        for speaker, text in item.clips.items()
    }


def speak_suites(
    suites: Sequence[Suite],
    plan: SpeakingPlan,
    cache: EspeakCache,
    on_progress: Callable[[int, int], None],
) -> None:
    """Speak what has not been spoken yet.

    Args:
        suites: an item's place in its suite gives it its seed.
        plan: see there.
        cache: holds the renderings of all reference clips.
        on_progress: told how many of all items are there.

    Raises:
        ConfigError: no such bundle.
        DataError: the rendering of a clip is missing.
    """
    folder = plan.speech_dir
    items = [(place, item) for suite in suites for place, item in enumerate(suite.items)]
    missing = [(place, item) for place, item in items if not has_generated(folder, _name(item))]
    if not missing:
        return
    with Synthesizer.load(plan.bundle, engine=plan.engine, max_slots=plan.num_streams) as speaker:
        requests = ((item, _request(item, place, plan, speaker, cache)) for place, item in missing)
        spoken = _in_flight(requests, speaker, plan.num_streams)
        for done, (item, speech) in enumerate(spoken, start=len(items) - len(missing) + 1):
            write_generated(folder, _name(item), speech)
            on_progress(done, len(items))


def read_spoken(items: Sequence[Item], plan: SpeakingPlan) -> list[Generated]:
    """What `speak_suites` has kept.

    Raises:
        DataError: something is missing or damaged.
    """
    return read_generated(plan.speech_dir, [_name(item) for item in items])


def _in_flight(
    requests: Iterable[tuple[Item, SpeechRequest]], synthesizer: Synthesizer, num_streams: int
) -> Iterable[tuple[Item, Generated]]:
    """Keep so many streams going; what was asked first comes out first."""
    running: deque[tuple[Item, SpeechStream]] = deque()
    for item, request in requests:
        if len(running) == num_streams:
            oldest, stream = running.popleft()
            yield oldest, join_chunks(list(stream))
        running.append((item, synthesizer.submit(request)))
    for item, stream in running:
        yield item, join_chunks(list(stream))


def _request(
    item: Item, place: int, plan: SpeakingPlan, synthesizer: Synthesizer, cache: EspeakCache
) -> SpeechRequest:
    voices: dict[int, Voice] = {}
    for speaker, clip in clips_of(item).items():
        heard = cache.read(clip)
        reference = ReferenceAudio(heard.samples, heard.sample_rate_hz, item.clips[speaker])
        voices[speaker] = encode_voice(synthesizer.codec, [reference])
    return SpeechRequest(
        item.dialogue.transcript,
        voices=voices,
        voice_ids=dict(item.presets),
        seed=plan.seed + place,
        sampling=SamplingOverrides(greedy=plan.greedy),
        max_frames=item.max_frames or plan.max_frames,
    )


def _name(item: Item) -> str:
    return f"{item.id}-{item.key}"
