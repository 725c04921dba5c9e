# SPDX-License-Identifier: Apache-2.0
"""Build the wheel, install it into a fresh environment, and speak with it outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The dependencies are those of the developer's environment, so that nothing is downloaded again.
SPEAK = """
from duologue.models import default_bundle_path
from duologue.model_repository import repository_path
from duologue.runtime.synthesizer import Synthesizer
assert "site-packages" in str(default_bundle_path()), default_bundle_path()
from duologue.runtime.gateway.page import STATIC_DIR
assert (STATIC_DIR / "index.html").is_file()
assert (repository_path() / "dialogue_tts" / "config.pbtxt").is_file()
with Synthesizer.load("default", engine="onnx") as synthesizer:
    speech = synthesizer.synthesize("[S1]Hi.[S2]Ho.", seed=1, max_frames=8)
assert len(speech.samples) > 0
import sys
assert "torch" not in sys.modules, "the embedded default must not need torch"
print(f"{speech.duration_s:.2f} s spoken from an installed wheel")
"""


def main() -> None:
    """Fail loudly if the wheel lacks a file that speaking needs."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(work), str(ROOT)]
        built = subprocess.run(build, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise SystemExit(built.stdout + built.stderr)
        (wheel,) = work.glob("*.whl")
        environment = work / "env"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        pip = [
            str(python),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "-q",
            "--no-deps",
        ]
        subprocess.run([*pip, str(wheel)], check=True)
        site = next((environment / "lib").glob("python*/site-packages"))
        theirs = Path(sys.prefix) / site.relative_to(environment)
        # Behind the environment's own packages, and without the checkout's editable finder.
        (site / "zz_dependencies.pth").write_text(f"import sys; sys.path.append({str(theirs)!r})\n")
        subprocess.run([str(python), "-c", SPEAK], check=True, cwd=work)


if __name__ == "__main__":
    main()
