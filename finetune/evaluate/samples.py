# SPDX-License-Identifier: Apache-2.0
"""Five short dialogues to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.evaluate.cast import PRESETS, voice_named
from duologue.finetune.evaluate.items import Item, Suite, planned
from duologue.finetune.evaluate.measures import Generated
from duologue.runtime.audio import to_int16

SAMPLES_DIR = "samples"
# Six seconds at 24 kHz and 16 bits are less than 300 kB.
_LONGEST_S = 6.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A dialogue that stands beside the figures.

    Attributes:
        file: name of the WAV file.
        caption: who is heard.
        item: what is asked for.
    """

    file: str
    caption: str
    item: Item


def make_samples(preset_names: Sequence[str], frame_rate_hz: float) -> list[Sample]:
    """The samples that a bundle can speak.

    Args:
        preset_names: of the bundle's voices; samples of others are left out.
        frame_rate_hz: of the bundle's codec.
    """
    most = int(_LONGEST_S * frame_rate_hz)
    english = ("Have you seen my glasses?", "They are on your nose, as always.")
    mandarin = ("今天晚上想吃什么？", "我们去吃火锅吧。")
    samples = [
        Sample("english.wav", "English, the default voices", _item("en", english, most)),
        Sample("mandarin.wav", "Mandarin, the default voices", _item("cmn", mandarin, most)),
        Sample(
            "references.wav",
            "English, two reference voices",
            _item("en", ("Did the parcel arrive?", "Not yet, maybe tomorrow."), most,
                  references=("newyork", "boris")),
        ),
    ]  # fmt: skip
    named = (
        ("presets-mandarin.wav", "cmn", ("外面下雪了，你看见了吗？", "看见了，真漂亮。"),
         ("女性温柔", "男性成熟")),
        ("presets-english.wav", "en", ("Shall we take the early train?", "Only if you wake me up."),
         ("lively", "young")),
    )  # fmt: skip
    for file, language, texts, names in named:
        if set(names) <= set(preset_names):
            caption = f"{' and '.join(names)}, voices of the bundle"
            samples.append(Sample(file, caption, _item(language, texts, most, presets=names)))
    return samples


def as_suite(samples: Sequence[Sample]) -> Suite:
    """All samples, to be spoken; they are not measured."""
    return Suite("samples", "samples", "en", tuple(sample.item for sample in samples))


def write_samples(
    folder: Path, samples: Sequence[Sample], spoken: Sequence[Generated]
) -> list[Path]:
    """Write a WAV file per sample into `samples/`.

    Returns:
        The files.
    """
    import soundfile

    (folder / SAMPLES_DIR).mkdir(parents=True, exist_ok=True)
    files = [folder / SAMPLES_DIR / sample.file for sample in samples]
    for file, speech in zip(files, spoken, strict=True):
        soundfile.write(file, to_int16(speech.samples), speech.sample_rate_hz, subtype="PCM_16")
    return files


def _item(
    language: str,
    texts: tuple[str, str],
    max_frames: int,
    references: tuple[str, str] | None = None,
    presets: tuple[str, str] | None = None,
) -> Item:
    """A question of speaker 1 and an answer of speaker 2."""
    names = references or ((PRESETS[presets[0]], PRESETS[presets[1]]) if presets else ("s1", "s2"))
    voices = (voice_named(names[0], language), voice_named(names[1], language))
    kind = "references" if references else "presets" if presets else "default"
    dialogue = planned(f"sample-{kind}-{language}", language, list(enumerate(texts, 1)), voices)
    clip = "I usually drink tea instead of coffee. We could share a taxi to the hotel."
    return Item(
        dialogue,
        clips=dict.fromkeys((1, 2), clip) if references else {},
        presets=dict(enumerate(presets, start=1)) if presets else {},
        max_frames=max_frames,
    )
