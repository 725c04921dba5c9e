"""Every command line of the manual is run by a test, or says what it needs to run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_gateway import Gateway
from manual_pages import DOCS, PAGES, ROOT, Line, blocks, command_lines, name_of
from scripted_client import ScriptedClient
from sounds import wav

from duologue.models import noise_bundle_path
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

CURL_PAGES = ("http_api.md", "index.md", "index.zh.md", "operating.md", "troubleshooting.md")
OPERATING = DOCS / "operating.md"
HERE = "tests/unit/docs/test_manual_commands.py"

# A line -> the file that runs it, or the verb that it calls, with a word that stands there.
TESTED = {
    r"curl .*localhost:(9000|9090)/": (HERE, "test_the_curl_lines"),
    r"curl .*127\.0\.0\.1:6008/": (".ci/check_autodl.sh", "/v1/audio/speech"),
    r"curl .*localhost:8000/": ("tests/triton/test_repository_readme.py", "curl"),
    r"\S*duologue say ": ("tests/triton/test_readme.py", "duologue say"),
    r"\S*duologue serve( --grpc-port 8001)?$": ("tests/triton/test_gateway.py", '"serve"'),
    r"duologue serve .*--(host|keys-file)": ("tests/unit/cli/test_serve.py", "keys-file"),
    r"duologue serve .*--codec-(device|engine)": ("tests/unit/cli/test_serve.py", "codec-device"),
    r"duologue serve .*--engine numpy": ("tests/triton/test_ranks_serve.py", "numpy"),
    r"duologue (status|stop)$": ("tests/triton/test_background.py", "stop"),
    r"duologue doctor( --json)?$": ("tests/unit/cli/test_doctor.py", "doctor"),
    r"duologue doctor --selftest$": ("tests/unit/cli/test_doctor.py", "selftest"),
    r"duologue (keys make|config show|voices) ": (HERE, "test_voices_keys_and_settings"),
    r"\S*duologue batch ": ("tests/integration/test_batch.py", "jsonl"),
    r"\S*duologue bench all ": ("tests/unit/cli/test_bench_cli.py", '"all"'),
    r"duologue bench (engine|stream|door|growth) ": ("tests/integration/test_bench.py", "door"),
    r"\S*duologue train( lm)? ": ("tests/integration/test_cli_train.py", "train"),
    r"duologue train codec ": ("tests/integration/test_train_codec.py", "codec"),
    r"duologue build .*--engine onnx": ("tests/integration/test_build_bundle.py", "build"),
    r"python -m duologue\.finetune\.new_model ": (
        "tests/unit/finetune/test_finetune_model.py",
        "main([",
    ),
    r"python -m duologue\.finetune\.average ": (
        "tests/unit/finetune/test_average_checkpoints.py",
        "main([",
    ),
    r"python -m duologue\.finetune\.finetune ": (
        "tests/integration/test_train_lm.py",
        "finetune.finetune",
    ),
    r"python -m duologue\.benchmarks\.engine\.device_check ": (
        "tests/integration/test_device_bench.py",
        "device_check.main",
    ),
    r"python -m duologue\.build_engines\.bundle_voices ": (
        "tests/integration/test_preset_voices.py",
        "bundle_voices",
    ),
    r"python -m duologue\.build_engines\.bundle_checkpoint ": (
        "tests/unit/build_engines/test_bundle_checkpoint.py",
        "bundle_checkpoint",
    ),
    r"deploy/autodl/pack\.sh ": ("tests/deploy/test_autodl_pack.py", "pack"),
    r"bash /root/autodl-tmp/\w+\.sh$": ("tests/deploy/test_autodl_deploy.py", "autodl_deploy.sh"),
    r"deploy/health\.sh ": ("tests/unit/deploy/test_health_script.py", "health.sh"),
    r"python kaggle_(setup|inference)\.py": ("tests/deploy/test_kaggle.py", "kaggle_setup"),
    r"promtool ": ("tests/unit/deploy/test_monitoring.py", "promtool"),
    r"prometheus --config": ("tests/unit/deploy/test_monitoring.py", "prometheus.yml"),
    r"docker/upgrade\.sh ": ("tests/deploy/test_containers.py", "upgrade.sh"),
}
# A line -> what it needs; the page says so, too.
NEEDS = {
    r"docker ": "Docker|docker",
    r"docker/prove\.sh": "package index",
    r"cp docker/\.env\.example ": "Docker",
    r"make eval$": "espeak-ng",
    r"make (talk|test|quick|dev|docs)": "sets everything up|make dev|everything into",
    r"\S*duologue build --lm path/to/MOSS": "MOSS-TTSD",
    r"\S*duologue serve --bundle bundles/moss$": "MOSS-TTSD",
    r"duologue build .*--engines trtllm": "GPU",
    r"(mpirun .*)?duologue serve --bundle bundle --engine trtllm": "GPU",
    r"duologue doctor --engine trtllm": "GPU",
    r"python -m duologue\.runtime\.supervisor\.gpu_repository ": "GPU",
    # Minutes of work: it is the table itself, run when the table is written.
    r"PYTHONPATH=tests/support python tests/exactness_table\.py": "measures everything anew",
    r"ssh ": "ssh",
    r"apt(-get)? install ": "apt",
    r"python -m duologue\.finetune\.speech_data": "espeak-ng",
}
RULES = {**dict.fromkeys(TESTED, ""), **NEEDS}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_tested_or_says_what_it_needs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in command_lines(page):
        found = [rule for rule in RULES if re.match(rule, line.text)]
        assert found, f"neither tested nor marked: {line.text}"
        for rule in set(found) & NEEDS.keys():
            assert re.search(NEEDS[rule], text), f"{line.text} needs {NEEDS[rule]}"


def test_every_rule_is_for_a_line_and_every_named_test_is_there() -> None:
    lines = [line.text for page in PAGES for line in command_lines(page)]
    assert [rule for rule in RULES if not any(re.match(rule, line) for line in lines)] == []
    for name, word in TESTED.values():
        assert word in (ROOT / name).read_text(encoding="utf-8"), f"{name} has no {word}"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with what the examples name."""
    (tmp_path / "ann.wav").write_bytes(wav())
    (tmp_path / "settings.yaml").write_text(blocks(OPERATING, "yaml")[0], encoding="utf-8")
    return tmp_path


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Gateway]:
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": tmp_path / "voices", "cache_dir": tmp_path / "cache"},
    }
    client = ScriptedClient()
    settings = load_settings(flags=flags, environment={})
    server = GatewayServer(settings, client=client, bundle_dir=noise_bundle_path(), grace_s=1)
    with server:
        yield Gateway(server, client)


def _curl_lines(page: str) -> list[Line]:
    return [line for line in command_lines(DOCS / page) if line.text.startswith("curl ")]


@pytest.mark.parametrize("page", CURL_PAGES)
def test_the_curl_lines_of_a_page_are_answered(page: str, door: Gateway, desk: Path) -> None:
    if page.startswith("index"):
        door.call("/health")
        add = _curl_lines("http_api.md")
        _curl(next(line for line in add if "-F name=ann" in line.text), door, desk)
    for line in _curl_lines(page):
        _curl(line, door, desk)


def _curl(line: Line, door: Gateway, desk: Path) -> None:
    metrics = (door.server.metrics_url or "").removesuffix("/metrics")
    words = [
        word.replace("localhost:9000", door.url).replace("localhost:9090", metrics)
        for word in line.words
    ]
    command = [words[0], "--fail-with-body", "--silent", "--show-error", *words[1:]]
    done = subprocess.run(
        command, cwd=desk, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{line.text}\n{done.stdout}{done.stderr}"
    for name in re.findall(r"-o (\S+)", line.text):
        assert (desk / name).stat().st_size > 0, line.text


def test_voices_keys_and_settings_work_as_the_page_shows_them(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(desk / "data"))
    verbs = ("duologue voices ", "duologue keys make ", "duologue config show ")
    lines = [line for line in command_lines(OPERATING) if line.text.startswith(verbs)]
    assert len(lines) == 7
    # The settings name the file of keys.
    for line in lines:
        if "voices import" in line.text:
            _duologue(desk, ["voices", "rm", "ann"])
        _duologue(desk, line.words[1:])
    assert (desk / "keys.txt").read_text(encoding="utf-8").startswith("ann ")


def _duologue(desk: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "duologue.cli", *words],
        cwd=desk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


PYTHON_BLOCKS = [
    (page, block)
    for page in ("index.md", "index.zh.md", "http_api.md")
    for block in blocks(DOCS / page, "python")
]


@pytest.mark.parametrize(
    "block", [block for _, block in PYTHON_BLOCKS if "localhost:9000" in block]
)
def test_python_over_http_runs_as_it_stands(block: str, door: Gateway, desk: Path) -> None:
    code = block.replace("localhost:9000", door.url.removeprefix("http://"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or (desk / "talk.mp3").stat().st_size > 0


def test_python_over_grpc_is_that_of_the_readme_but_for_the_script() -> None:
    def plain(code: str) -> str:
        return re.sub(r'script = ".*"', "script = ...", code)

    # Those of the README run against a real server.
    known = {plain(block) for block in blocks(ROOT / "README.md", "python")}
    over_grpc = [block for _, block in PYTHON_BLOCKS if "localhost:9000" not in block]
    assert len(over_grpc) == 2
    assert all(plain(block) in known for block in over_grpc)
