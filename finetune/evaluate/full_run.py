# SPDX-License-Identifier: Apache-2.0
"""Everything that is promised of a bundle, measured in one go.

espeak-ng renders, the bundle speaks, both are compared; what has been made is kept, so that a run
that was broken off goes on, and another model is measured against the same renderings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.finetune.evaluate.card import check_card
from duologue.finetune.evaluate.cast import voice_named
from duologue.finetune.evaluate.door_clock import OpenDoor, time_door
from duologue.finetune.evaluate.espeak_cache import EspeakCache
from duologue.finetune.evaluate.evaluation import Evaluation, RealTime
from duologue.finetune.evaluate.full_report import Results, write_card, write_results
from duologue.finetune.evaluate.held_out_texts import HeldOutTexts
from duologue.finetune.evaluate.items import LANGUAGE_NAMES, Suite, planned
from duologue.finetune.evaluate.measures import Generated, Rendering
from duologue.finetune.evaluate.samples import as_suite, make_samples
from duologue.finetune.evaluate.speakers import SpeakerClassifier, voice_features
from duologue.finetune.evaluate.speaking import SpeakingPlan, clips_of, read_spoken, speak_suites
from duologue.finetune.evaluate.suite_figures import SuiteFigures, measure_suite
from duologue.finetune.evaluate.suites import EVERYDAY, Sizes, make_suites
from duologue.finetune.evaluate.word_errors import WordErrors, measure_word_errors
from duologue.finetune.sources import open_codec
from duologue.finetune.speech_data.dialogues import PlannedDialogue
from duologue.models import resolve_bundle
from duologue.runtime.audio import resample_sinc_hann
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.codec.base import Codec
from duologue.runtime.presets import read_presets

_PICTURES_OF = {"sentences-en": 2, "sentences-cmn": 2}

StageProgress = Callable[[str, int, int], None]
"""Told the name of a stage, and how much of how much is done."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is measured, and where the results go.

    Attributes:
        speaking: which bundle, and how it speaks.
        out_dir: gets the report, the samples and the pictures.
        sizes: how many items.
        trainer_states: of the runs that made the model, for the loss curve; without them, the
            points that lie beside the card or the report are drawn again, if there are any.
        card_dir: folder of a model card that is brought up to date, too; None: no card.
    """

    speaking: SpeakingPlan
    out_dir: Path
    sizes: Sizes
    trainer_states: tuple[Path, ...] = ()
    card_dir: Path | None = None


def evaluate_fully(
    plan: EvaluationPlan,
    texts: HeldOutTexts,
    cache: EspeakCache,
    open_door: OpenDoor | None,
    on_progress: StageProgress,
) -> Evaluation:
    """Render, speak, measure and write.

    Args:
        plan: see there.
        texts: held-out text.
        cache: of renderings; may be shared by runs.
        open_door: through which the real-time factor is taken; None: it is not.
        on_progress: see `StageProgress`.

    Raises:
        ConfigError: no such bundle, or a card without its two marks.
        EngineUnavailableError: espeak-ng or pocketsphinx is not installed.
        DataError: something that was kept cannot be read.
    """
    if plan.card_dir is not None:
        check_card(plan.card_dir)
    directory = resolve_bundle(plan.speaking.bundle)
    bundle = verify_bundle(directory)
    presets = read_presets(bundle, directory).names
    suites = make_suites(texts, plan.sizes, presets)
    samples = make_samples(presets, bundle.codec.frame_rate_hz)
    spoken_suites = [*suites, as_suite(samples)]
    fits = {
        language: _fit_dialogues(suites, language, plan.sizes.per_voice)
        for language in LANGUAGE_NAMES
    }
    cache.render(_all_dialogues(spoken_suites, fits), _stage(on_progress, "rendering"))
    speak_suites(spoken_suites, plan.speaking, cache, _stage(on_progress, "speaking"))
    evaluation = Evaluation(
        bundle.name,
        {"greedy": plan.speaking.greedy, "seed": plan.speaking.seed,
         "engine": plan.speaking.engine},
        tuple(_figures(suites, fits, plan, cache, on_progress)),
        _word_errors(suites, plan, cache, on_progress),
        _real_time(suites, plan, open_door, on_progress),
    )  # fmt: skip
    results = Results(
        evaluation,
        samples,
        read_spoken([sample.item for sample in samples], plan.speaking),
        *_shown(suites, plan, cache),
        plan.trainer_states,
    )
    write_results(results, plan.out_dir)
    if plan.card_dir is not None:
        write_card(results, plan.card_dir)
    return evaluation


def _all_dialogues(
    suites: Sequence[Suite], fits: dict[str, list[PlannedDialogue]]
) -> list[PlannedDialogue]:
    """Everything that espeak-ng has to say."""
    items = [item for suite in suites for item in suite.items]
    clips = [clip for item in items for clip in clips_of(item).values()]
    return [*(item.dialogue for item in items), *clips, *(d for fit in fits.values() for d in fit)]


def _fit_dialogues(suites: Sequence[Suite], language: str, per_voice: int) -> list[PlannedDialogue]:
    """Sentences of every voice that a turn may be told to have, from which they are learnt."""
    items = [item for suite in suites if suite.language == language for item in suite.items]
    names = sorted({name for item in items for name in item.rivals})
    voices = [voice_named(name, language) for name in names]
    return [
        planned("fit", language, [(1, text)], (voice, voice))
        for voice in voices
        for text in EVERYDAY[language][-per_voice:]
    ]


def _figures(
    suites: Sequence[Suite],
    fits: dict[str, list[PlannedDialogue]],
    plan: EvaluationPlan,
    cache: EspeakCache,
    on_progress: StageProgress,
) -> list[SuiteFigures]:
    codec = open_codec(resolve_bundle(plan.speaking.bundle), 1)
    classifiers = {language: _fit(cache, fits[language], codec) for language in fits}
    figures = []
    for done, suite in enumerate(suites, start=1):
        renderings = [cache.read(item.dialogue) for item in suite.items]
        spoken = read_spoken(suite.items, plan.speaking)
        decoded = [through_codec(codec, rendering) for rendering in renderings]
        classifier = classifiers[suite.language]
        figures.append(measure_suite(suite, renderings, spoken, decoded, classifier))
        on_progress("measuring", done, len(suites))
    return figures


def through_codec(codec: Codec, rendering: Rendering) -> Generated:
    """Encode and decode, in windows that the codec can take at once."""
    config = codec.config
    codes = codec.encode(
        resample_sinc_hann(rendering.samples, rendering.sample_rate_hz, config.input_rate_hz)
    )
    windows = [
        codec.decode(codes[None, :, start : start + config.max_frames])[0]
        for start in range(0, codes.shape[1], config.max_frames)
    ]
    return Generated(np.concatenate(windows), config.sample_rate_hz)


def _fit(
    cache: EspeakCache, dialogues: Sequence[PlannedDialogue], codec: Codec
) -> SpeakerClassifier:
    """Learn voices as espeak-ng speaks them, and as the codec alone makes them sound.

    Judged by the former alone, much that is the codec's would be laid to the language model.
    """
    features, names = [], []
    for dialogue in dialogues:
        rendering = cache.read(dialogue)
        for clip in (rendering, through_codec(codec, rendering)):
            features.append(voice_features(clip.samples, clip.sample_rate_hz))
            names.append(rendering.voices[0])
    return SpeakerClassifier.fit(features, names)


def _word_errors(
    suites: Sequence[Suite], plan: EvaluationPlan, cache: EspeakCache, on_progress: StageProgress
) -> WordErrors:
    (suite,) = (suite for suite in suites if suite.name == "sentences-en")
    renderings = [cache.read(item.dialogue) for item in suite.items]
    spoken = read_spoken(suite.items, plan.speaking)
    return measure_word_errors(renderings, spoken, _stage(on_progress, "recognising"))


def _real_time(
    suites: Sequence[Suite],
    plan: EvaluationPlan,
    open_door: OpenDoor | None,
    on_progress: StageProgress,
) -> RealTime | None:
    if open_door is None:
        return None
    dialogues = [suite.items for suite in suites if suite.name.startswith("dialogues-")]
    # Turn by turn of the languages.
    mixed = [item.dialogue.transcript for pair in zip(*dialogues, strict=True) for item in pair]
    return time_door(open_door, mixed[: plan.sizes.timed], _stage(on_progress, "timing"))


def _shown(
    suites: Sequence[Suite], plan: EvaluationPlan, cache: EspeakCache
) -> tuple[list[Rendering], list[Generated]]:
    """Items whose spectrograms are drawn: renderings, and the bundle's speech."""
    items = [item for suite in suites for item in suite.items[: _PICTURES_OF.get(suite.name, 0)]]
    return [cache.read(item.dialogue) for item in items], read_spoken(items, plan.speaking)


def _stage(on_progress: StageProgress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(name, done, total)
