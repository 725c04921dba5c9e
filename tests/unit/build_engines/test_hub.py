from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from duologue.build_engines.hub import HubModel, parse_hub_model, resolve_model
from duologue.runtime.errors import ConfigError, EngineUnavailableError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"channels": 8}',
    "model.safetensors": bytes(range(256)) * 400,
    "picture.png": b"no model file",
}


class FakeHub(http.server.ThreadingHTTPServer):
    """The few pages of a hub that a download needs, and a record of what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakePage)
        self.requests: list[tuple[str, str, str | None]] = []
        self.bytes_before_break: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> set[str]:
        return {path.rsplit("/", 1)[-1] for verb, path, _ in self.requests if verb == "GET"}


class FakePage(http.server.BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if path == "/api/models/org/name/revision/main":
            siblings = [{"rfilename": name} for name in FILES]
            self.reply(json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/api/models/org/name/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                for name, data in FILES.items()
            ]
            self.reply(json.dumps(entries).encode())
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            self.reply_file(FILES[path.rsplit("/", 1)[-1]])
        else:
            self.reply(b"{}", status=404)

    def reply(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def reply_file(self, data: bytes) -> None:
        wanted = self.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(data)
        if self.server.bytes_before_break is not None:
            end = min(end, begin + self.server.bytes_before_break)
        self.wfile.write(data[begin:end])
        if end < len(data):
            self.close_connection = True


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_or_file_here_stays_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "codec.ckpt"
    file.write_bytes(b"weights")
    assert resolve_model(str(tmp_path)) == tmp_path
    assert resolve_model(str(file), offline=True) == file


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("org/name", HubModel("org/name")),
        ("org/name@v1.0", HubModel("org/name", "v1.0")),
        ("modelscope:org/name", HubModel("org/name", modelscope=True)),
        ("modelscope:org/name@main", HubModel("org/name", "main", modelscope=True)),
    ],
)
def test_names_on_a_hub_are_read(source: str, model: HubModel) -> None:
    assert parse_hub_model(source) == model


@pytest.mark.parametrize(
    "source", ["", "name", "/no/such/folder", "./a/b", "a/b/c", "org/name@", "org/na me", "../x"]
)
def test_what_is_neither_here_nor_a_name_on_a_hub_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="allowed: an existing folder or file, organisation/name"):
        parse_hub_model(source)


def test_a_model_is_fetched_with_the_files_that_matter(tmp_path: Path, hub: FakeHub) -> None:
    folder = resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address)
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not (folder / "picture.png").exists()
    assert "picture.png" not in hub.fetched()


def test_a_second_call_fetches_no_file_again(tmp_path: Path, hub: FakeHub) -> None:
    first = resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address)
    hub.requests.clear()
    assert resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address) == first
    assert not hub.fetched() & set(FILES)


def test_offline_takes_what_is_in_the_cache_and_asks_nobody(tmp_path: Path, hub: FakeHub) -> None:
    first = resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address)
    hub.requests.clear()
    again = resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address, offline=True)
    assert again == first
    assert hub.requests == []


def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library writes pieces of ten million bytes; a shorter one is lost with its connection.
    large = bytes(range(256)) * 100_000
    monkeypatch.setitem(FILES, "model.safetensors", large)
    hub.bytes_before_break = 15_000_000
    folder = resolve_model("org/name", cache_dir=tmp_path, endpoint=hub.address)
    assert (folder / "model.safetensors").read_bytes() == large
    ranges = [
        wanted
        for verb, path, wanted in hub.requests
        if verb == "GET" and path.endswith("model.safetensors") and wanted
    ]
    starts = [int(wanted.removeprefix("bytes=").split("-")[0]) for wanted in ranges]
    assert max(starts) >= 10_000_000


def test_the_mirror_of_the_environment_is_asked(tmp_path: Path, hub: FakeHub) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from duologue.build_engines.hub import resolve_model; "
        "print(resolve_model('org/name', cache_dir=Path(sys.argv[1])))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (Path(result.stdout.strip()) / "config.json").is_file()
    assert ("GET", "/api/models/org/name/revision/main", None) in hub.requests


def test_an_unknown_model_is_refused_with_the_command_to_fetch_it(
    tmp_path: Path, hub: FakeHub
) -> None:
    with pytest.raises(ConfigError, match=r"org/other cannot be fetched .*404"):
        resolve_model("org/other", cache_dir=tmp_path, endpoint=hub.address)


def test_without_a_network_the_command_to_fetch_by_hand_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hf download org/name --revision v2 --local-dir MODEL"):
        resolve_model("org/name@v2", cache_dir=tmp_path, endpoint="http://127.0.0.1:9")


def test_offline_without_a_cache_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--offline forbids"):
        resolve_model("org/name", cache_dir=tmp_path, offline=True)


def install_fake_modelscope(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = []

    class HubError(Exception):
        pass

    def snapshot_download(repository: str, **options: object) -> str:
        calls.append({"repository": repository, **options})
        if repository == "org/missing":
            raise HubError("not found")
        return str(folder)

    errors = types.ModuleType("modelscope.hub.errors")
    errors.HubError = HubError  # type: ignore[attr-defined]
    module = types.ModuleType("modelscope")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", module)
    monkeypatch.setitem(sys.modules, "modelscope.hub", types.ModuleType("modelscope.hub"))
    monkeypatch.setitem(sys.modules, "modelscope.hub.errors", errors)
    return calls


def test_modelscope_is_asked_when_its_name_stands_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install_fake_modelscope(monkeypatch, tmp_path)
    assert resolve_model("modelscope:org/name@v1", offline=True) == tmp_path
    assert calls[0]["repository"] == "org/name"
    assert calls[0]["revision"] == "v1"
    assert calls[0]["local_files_only"] is True


def test_a_model_that_modelscope_lacks_is_refused_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_modelscope(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match="modelscope download org/missing"):
        resolve_model("modelscope:org/missing")


@pytest.mark.parametrize(
    ("source", "module", "package"),
    [
        ("org/name", "huggingface_hub", r"duologue\[build\]"),
        ("modelscope:org/name", "modelscope", r"duologue\[modelscope\]"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, source: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineUnavailableError, match=package):
        resolve_model(source)
