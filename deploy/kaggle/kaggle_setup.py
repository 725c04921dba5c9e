# SPDX-License-Identifier: Apache-2.0
"""Make a Kaggle session ready: packages, GPUs, weights, folders. Run it again at any time.

    python kaggle_setup.py                      # MOSS-TTSD, for GPUs
    python kaggle_setup.py --model embedded     # the small model that ships, for a try on a CPU

Standard library only: nothing has to be installed before it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from advice import advise

HERE = Path(__file__).resolve().parent
MIN_FREE_GB = 12
"""Weights as they are fetched (about 6 GB) and as they are built (about 4 GB), and some air."""


class SetupError(Exception):
    """A step failed; says which and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps; stop at the first that fails."""
    options = _parse(arguments)
    try:
        if not options.skip_install:
            install()
        gpus = find_gpus()
        bundle = prepare_model(options, has_gpu=bool(gpus))
        make_folders(options.work_dir, bundle)
    except SetupError as error:
        print(f"FAILED {error}", flush=True)
        for remedy in advise(str(error)):
            print(f"  try: {remedy}", flush=True)
        return 1
    print("ready: python kaggle_inference.py", flush=True)
    return 0


def install() -> None:
    """Install duologue from the wheel beside this file, or from the checkout around it."""
    wheels = sorted(HERE.glob("duologue-*.whl"))
    source = str(wheels[-1]) if wheels else str(HERE.parents[1])
    if not wheels and not (HERE.parents[1] / "pyproject.toml").is_file():
        raise SetupError(
            f"packages: neither a wheel duologue-*.whl in {HERE} nor a checkout around it"
        )
    # The torch that Kaggle ships fits its GPUs and its driver; pip keeps it as it is.
    extras = "gpu,build,client" if importlib.util.find_spec("torch") else "cpu"
    _run("packages", [sys.executable, "-m", "pip", "install", "-q", f"{source}[{extras}]"])
    print(f"ok     packages: duologue[{extras}]", flush=True)


def find_gpus() -> list[str]:
    """Names of the GPUs, with what to do when there is none."""
    if shutil.which("nvidia-smi") is None:
        print("notice no GPU: choose 'GPU T4 x2' under Settings, Accelerator", flush=True)
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    found = _run("GPUs", query).strip().splitlines()
    for number, line in enumerate(found):
        print(f"ok     GPU {number}: {line}", flush=True)
    if len(found) == 1:
        print("notice one GPU: 'GPU T4 x2' gives two, and both are used", flush=True)
    return found


def prepare_model(options: argparse.Namespace, *, has_gpu: bool) -> str:
    """Build the bundle, unless it is built already.

    Returns:
        Its folder, or "default" for the model that ships.
    """
    if options.model == "embedded" or (options.model == "auto" and not has_gpu):
        print("ok     model: the small one that ships with duologue", flush=True)
        return "default"
    folder = Path(options.model_dir) / "moss_ttsd"
    if (folder / "bundle.json").is_file():
        print(f"ok     model: {folder} is there already", flush=True)
        return str(folder)
    Path(options.model_dir).mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(options.model_dir).free / 1e9
    if free_gb < MIN_FREE_GB:
        raise SetupError(
            f"model: {free_gb:.1f} GB are free at {options.model_dir}, {MIN_FREE_GB} are needed: "
            "No space left on device"
        )
    # T4 GPUs have no bfloat16.
    command = [sys.executable, "-m", "duologue.cli", "build", "--engine", "torch"]
    command += ["--dtype", "fp16", "--lm", options.lm, "--codec", options.codec]
    _run("model", [*command, "--out", str(folder), "--no-parity"], shows=True)
    print(f"ok     model: {folder}", flush=True)
    return str(folder)


def make_folders(work_dir: str, bundle: str) -> None:
    """Make the folder for outputs, and note which bundle speaks."""
    work = Path(work_dir)
    (work / "outputs").mkdir(parents=True, exist_ok=True)
    settings = {"bundle": bundle, "output_dir": str(work / "outputs")}
    (work / "duologue_kaggle.json").write_text(json.dumps(settings, indent=2) + "\n")
    print(f"ok     folders: {work / 'outputs'}", flush=True)


def _run(step: str, command: Sequence[str], *, shows: bool = False) -> str:
    """Run a command and give what it printed; its output is also shown when it is long work."""
    printed: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if shows:
                print(line, end="", flush=True)
    text = "".join(printed)
    if process.returncode != 0:
        raise SetupError(f"{step}: {text.strip()[-2000:] or 'no word from ' + command[0]}")
    return text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model",
        choices=("auto", "moss", "embedded"),
        default="auto",
        help="auto takes MOSS-TTSD where a GPU is, else the small model that ships",
    )
    parser.add_argument("--lm", default="fnlp/MOSS-TTSD-v0.5", help="folder or hub name")
    parser.add_argument("--codec", default="fnlp/XY_Tokenizer_TTSD_V0", help="folder or hub name")
    parser.add_argument("--model_dir", default="bundles", help="where the bundle is built")
    parser.add_argument("--work_dir", default=".", help="where outputs/ is made")
    parser.add_argument("--skip_install", action="store_true", help="packages are there already")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
