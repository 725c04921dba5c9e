"""deploy/health.sh with stand-ins for nvidia-smi and df, in front of a small HTTP server."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "health.sh"
# What the script itself calls.
TOOLS = ("bash", "curl", "awk", "env")
HEALTHY = b'{"status":"healthy"}'
DF = "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'\necho '/dev/a 9 9 9 {}% /'\n"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Service:
    """Answers /health with a status of one's choice."""

    def __init__(self) -> None:
        self.status = 200
        self.body = HEALTHY
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(service.status if self.path == "/health" else 404)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.http.serve_forever, args=(0.01,))
    thread.start()
    yield service
    service.http.shutdown()
    thread.join()
    service.http.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script with nothing on PATH but its tools and the stand-ins."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the script needs {missing[0]}: apt install {missing[0]}")
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or "")

    def start(
        *arguments: str, disk: str = DF.format(12), gpu: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        for name, body in (("df", disk), ("nvidia-smi", gpu)):
            if body is not None:
                path = folder / name
                path.write_text(f"#!{shutil.which('bash')}\n{body}")
                path.chmod(0o755)
        environment = {"PATH": str(folder), "LC_ALL": "C", **variables}
        command = [str(SCRIPT), *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    return start


def test_a_healthy_service_is_three_good_lines(run: Run, service: Service) -> None:
    result = run(service.url, gpu="echo '0, 2150, 8192, 37'; echo '1, 10, 8192, 0'")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f'[ok]   service: {service.url}: {{"status":"healthy"}}',
        "[ok]   GPU 0: 2150 of 8192 MB in use, 37 % busy",
        "[ok]   GPU 1: 10 of 8192 MB in use, 0 % busy",
        "[ok]   disk: 12 % of the disk of . is in use",
    ]
    assert result.stderr == ""


def test_an_unhealthy_service_fails_and_its_reasons_are_shown(run: Run, service: Service) -> None:
    service.status, service.body = 503, b'{"status":"unhealthy","reasons":["no model"]}'
    result = run(DUOLOGUE_URL=service.url + "/")
    assert result.returncode == 1
    assert f"[FAIL] service: {service.url} answers 503: " in result.stdout
    assert "no model" in result.stdout
    # The rest is still looked at.
    assert "[ok]   GPU: none" in result.stdout
    assert "[ok]   disk" in result.stdout


def test_nothing_at_the_address_fails(run: Run, service: Service) -> None:
    result = run("http://127.0.0.1:1")
    assert result.returncode == 1
    assert "[FAIL] service: no answer from http://127.0.0.1:1: curl: " in result.stdout


@pytest.mark.parametrize(
    ("percent", "line"),
    [(80, "[ok]   disk: 80 %"), (81, "[warn] disk: 81 %"), (100, "[warn] disk: 100 %")],
)
def test_a_disk_above_eighty_percent_is_a_warning(
    run: Run, service: Service, percent: int, line: str
) -> None:
    result = run(service.url, disk=DF.format(percent))
    assert result.returncode == 0
    assert line in result.stdout


def test_folder_and_limit_of_the_disk_can_be_chosen(run: Run, service: Service) -> None:
    disk = 'echo "$@" >asked\n' + DF.format(60)
    result = run(service.url, disk=disk, DUOLOGUE_STORAGE="/data/a b", DISK_WARN_PERCENT="50")
    assert "[warn] disk: 60 % of the disk of /data/a b is in use, more than 50 %" in result.stdout


def test_a_df_that_fails_and_a_driver_that_fails_are_warnings(run: Run, service: Service) -> None:
    gpu = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"
    result = run(service.url, disk="exit 1", gpu=gpu)
    assert result.returncode == 0
    assert "[warn] disk: df says nothing" in result.stdout
    assert "[warn] GPU: nvidia-smi fails: Failed to initialize NVML" in result.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("a", "b")])
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: " in result.stderr


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck reads the script: apt install shellcheck")
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_script_can_be_started() -> None:
    assert os.access(SCRIPT, os.X_OK)
