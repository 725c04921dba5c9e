# SPDX-License-Identifier: Apache-2.0
"""What to do about the faults that runs on Kaggle really meet. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """A fault and its remedy.

    Attributes:
        pattern: found in what the failed command printed.
        remedy: what to do, in a sentence or two.
    """

    pattern: str
    remedy: str


# The first that fits is given: what is special stands before what is general.
ADVICE = (
    Advice(
        r"flash[-_ ]?attn|flash[-_ ]attention",
        "flash-attn is not needed: torch's own attention is used. Leave it out.",
    ),
    Advice(
        r"out of memory|OutOfMemory|does not fit into the GPU",
        "The GPU's memory is too small for this: --max_slots 1, --max_samples 1 or a smaller "
        "--max_seconds; then restart the session, so that nothing old holds memory.",
    ),
    Advice(
        r"cannot be fetched|Name or service not known|Temporary failure in name resolution"
        r"|ConnectionError|Max retries exceeded",
        "The network is off: Settings, Internet, On (needs a verified phone number). Or attach "
        "the weights as a Kaggle dataset and give their folders: --lm /kaggle/input/.../lm "
        "--codec /kaggle/input/.../codec. HF_ENDPOINT names a mirror.",
    ),
    Advice(
        r"\b(401|403)\b.*(Unauthorized|Forbidden)|gated repo|Access to model",
        "The model wants a login: put a token into Add-ons, Secrets, as HF_TOKEN.",
    ),
    Advice(
        r"No space left on device|disk is full|Errno 28",
        "The disk is full: /kaggle/working holds about 20 GB. Delete old outputs, or point "
        "--model_dir at /kaggle/temp or /tmp, which are not kept.",
    ),
    Advice(
        r"No matching distribution|Could not find a version|pip subprocess|pip._vendor",
        "A package could not be installed: turn the network on, or attach the wheels as a "
        "dataset and set PIP_FIND_LINKS to its folder.",
    ),
    Advice(
        r"no kernel image|CUDA driver version is insufficient|CUDA error",
        "torch does not fit this GPU or its driver: choose 'GPU T4 x2', and take Kaggle's own "
        "torch (restart with a fresh session, and do not install another).",
    ),
    Advice(
        r"longer than|too long|PromptTooLong|prompt and speech do not fit",
        "A recording or a script is too long: keep recordings under 30 s each, split the "
        "script into several lines, or lower --max_seconds.",
    ),
    Advice(
        r"audio file|cannot be read as audio|LibsndfileError|Format not recognised",
        "A recording cannot be read: give WAV files, mono or stereo, and check base_path in "
        "the JSONL line.",
    ),
    Advice(
        r"not UTF-8|UnicodeDecodeError|no JSON",
        "The JSONL file cannot be read: one JSON object per line, saved as UTF-8.",
    ),
    Advice(
        r"No module named",
        "Something is not installed: run kaggle_setup.py first, in this very session.",
    ),
)


def advise(printed: str) -> list[str]:
    """Remedies for what a command printed; none when nothing known is in it.

    >>> advise("torch.OutOfMemoryError: CUDA out of memory.")[0][:33]
    "The GPU's memory is too small for"
    """
    return [
        advice.remedy for advice in ADVICE if re.search(advice.pattern, printed, re.IGNORECASE)
    ][:2]
