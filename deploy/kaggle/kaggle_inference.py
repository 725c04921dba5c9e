# SPDX-License-Identifier: Apache-2.0
"""Speak the dialogues of a JSONL file on Kaggle: every GPU at work, within the session's time.

    python kaggle_inference.py
    python kaggle_inference.py --jsonl your_data.jsonl --output_dir outputs --max_samples 3

Writes kaggle_output_N.wav and kaggle_results.json. Run the same line again to go on where a
session ended: what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from advice import advise

EXAMPLE = "[S1]Shall we try it on two GPUs?[S2]Yes. One of them speaks while the other one listens."
SETTINGS = Path("duologue_kaggle.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Speak, and give advice on what failed."""
    options = _parse(arguments)
    output_dir = Path(options.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    jsonl = Path(options.jsonl) if options.jsonl else _example(output_dir)
    if not jsonl.is_file():
        print(f"FAILED there is no file {jsonl}", flush=True)
        return 1
    _tell_caps(options, jsonl)
    devices = _gpus()
    command = [*_command(options, jsonl, output_dir)]
    if devices:
        print(f"{len(devices)} GPUs, one process each", flush=True)
        command += ["--devices", ",".join(devices), "--engine", "torch"]
    status, printed = _run(command)
    printed += _logs(output_dir)
    _report(output_dir / "kaggle_results.json", printed, failed=status != 0)
    return status


def _command(options: argparse.Namespace, jsonl: Path, output_dir: Path) -> list[str]:
    command = [sys.executable, "-m", "duologue.cli", "batch", "--prefix", "kaggle_output_"]
    command += ["--jsonl", str(jsonl), "--output-dir", str(output_dir)]
    command += ["--bundle", options.bundle or _bundle(), "--max-slots", str(options.max_slots)]
    command += ["--time-limit-s", str(options.max_hours * 3600)]
    if options.max_samples:
        command += ["--max-samples", str(options.max_samples)]
    if options.max_seconds:
        command += ["--max-audio-s", str(options.max_seconds)]
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    return [*command, "--use-normalize"] if options.use_normalize else command


def _bundle() -> str:
    """The bundle that kaggle_setup.py has prepared."""
    if SETTINGS.is_file():
        return str(json.loads(SETTINGS.read_text())["bundle"])
    return "default"


def _example(output_dir: Path) -> Path:
    path = output_dir / "example.jsonl"
    path.write_text(json.dumps({"text": EXAMPLE}) + "\n", encoding="utf-8")
    return path


def _tell_caps(options: argparse.Namespace, jsonl: Path) -> None:
    with jsonl.open("rb") as lines:
        count = sum(1 for line in lines if line.strip())
    if options.max_samples and count > options.max_samples:
        print(
            f"notice {count} lines, the first {options.max_samples} are spoken; "
            "--max_samples 0 speaks all",
            flush=True,
        )
    if options.max_seconds:
        print(
            f"notice audio ends after {options.max_seconds:g} s; --max_seconds 0 sets no limit",
            flush=True,
        )


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command, show what it prints, and keep it."""
    printed: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    return process.returncode, "".join(printed)


def _logs(output_dir: Path) -> str:
    """The ends of the logs of the processes, one per GPU."""
    logs = sorted(output_dir.glob(".device*.log"))
    return "".join(log.read_text(encoding="utf-8", errors="replace")[-4000:] for log in logs)


def _report(path: Path, printed: str, *, failed: bool) -> None:
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        for file in report["files"]:
            cut = " (cut at the limit)" if file["finish_reason"] == "length" else ""
            print(f"{path.parent / file['file']}  {file['duration_s']:.1f} s{cut}", flush=True)
        printed += "\n".join(error["error"] for error in report["errors"])
    for remedy in advise(printed) if failed else []:
        print(f"  try: {remedy}", flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jsonl", help="one dialogue per line; without it: a built-in example")
    parser.add_argument("--output_dir", default="outputs")
    parser.add_argument("--max_samples", type=int, default=5, help="0: all lines")
    parser.add_argument("--max_seconds", type=float, default=60.0, help="per line; 0: no limit")
    parser.add_argument("--max_hours", type=float, default=8.5, help="begin no line after that")
    parser.add_argument("--max_slots", type=int, default=4, help="lines at the same time, per GPU")
    parser.add_argument("--use_normalize", action="store_true", help="MOSS-TTSD's text rules")
    parser.add_argument("--seed", type=int, help="the same audio each time")
    parser.add_argument("--bundle", help="instead of the one that kaggle_setup.py prepared")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
