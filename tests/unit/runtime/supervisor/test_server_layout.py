from __future__ import annotations

from pathlib import Path

import pytest

from duologue.model_repository import repository_path
from duologue.runtime.errors import ConfigError, EngineError, VoiceError
from duologue.runtime.supervisor.command import (
    ServerOptions,
    server_command,
    server_environment,
)
from duologue.runtime.supervisor.layout import (
    Workspace,
    copy_repository,
    prepare_workspace,
    read_config,
)
from duologue.runtime.supervisor.log import read_announcement, start_failure
from duologue.runtime.supervisor.triton_install import TritonInstall

WHEEL = TritonInstall(Path("/wheel/tritonserver"), Path("/wheel/libs"))


def test_parameters_are_set_in_the_models_that_declare_them(tmp_path: Path) -> None:
    codec = {"codec_engine": "torch", "codec_device": "cuda:1"}
    bundle = {"bundle": '/b with "quotes"'}
    wanted = {**bundle, "engine": "onnx", "max_slots": "3", **codec}

    copy_repository(repository_path(), tmp_path, wanted)

    def parameters(model: str) -> dict[str, str]:
        config = read_config(tmp_path / model / "config.pbtxt")
        return {name: value.string_value for name, value in config.parameters.items()}

    assert parameters("dialogue_tts") == {**wanted, "sample_rate_hz": ""}
    assert parameters("codec_decoder") == {**bundle, **codec}
    assert parameters("codec_encoder") == {**bundle, **codec}
    assert parameters("script_frontend") == bundle
    assert parameters("dialogue_decoder") == {}


def test_all_but_the_parameters_is_copied_as_it_is(tmp_path: Path) -> None:
    copy_repository(repository_path(), tmp_path, {})

    for source in repository_path().glob("*/config.pbtxt"):
        copy = tmp_path / source.parent.name
        assert read_config(copy / "config.pbtxt") == read_config(source)
        assert (copy / "1").is_dir()
        for model in source.parent.glob("1/model.py"):
            assert (copy / "1" / "model.py").read_text() == model.read_text()


def test_a_config_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    path = tmp_path / "broken" / "config.pbtxt"
    path.write_text("max_batch_size: ${size}")

    with pytest.raises(ConfigError, match=r"broken/config\.pbtxt is no Triton model"):
        read_config(path)


def test_the_workspace_links_the_stub_beside_the_backend(tmp_path: Path) -> None:
    workspace = prepare_workspace(tmp_path, WHEEL, repository_path(), {})

    backend = workspace.backends / "python"
    assert {path.name for path in backend.iterdir()} == {
        "libtriton_python.so",
        "triton_python_backend_utils.py",
        "triton_python_backend_stub",
    }
    assert list(workspace.cwd.iterdir()) == []


def test_doors_are_closed_unless_they_are_asked_for() -> None:
    workspace = Workspace(Path("/w"))

    closed = server_command(WHEEL, workspace, ServerOptions(grpc_port=1), "p_")
    opened = server_command(
        WHEEL, workspace, ServerOptions(grpc_port=1, http_port=2, metrics_port=3), "p_"
    )

    assert {"--allow-http=false", "--allow-metrics=false"} <= set(closed)
    assert {"--http-port=2", "--metrics-port=3", "--metrics-address=127.0.0.1"} <= set(opened)
    assert "--backend-config=python,shm-region-prefix-name=p_" in closed
    assert not any(flag.startswith("--cache-config") for flag in closed)


def test_a_cache_is_made_when_it_has_a_size() -> None:
    command = server_command(
        WHEEL, Workspace(Path("/w")), ServerOptions(grpc_port=1, cache_bytes=7), "p_"
    )

    assert "--cache-config=local,size=7" in command


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match=f"http_port is {port}; allowed: 1 to 65535"):
        ServerOptions(grpc_port=1, http_port=port)


def test_this_interpreter_and_its_libraries_come_first() -> None:
    given = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/mine", "HOME": "/h"}

    made = server_environment(WHEEL, given)

    assert made["PATH"].endswith(":/usr/bin")
    assert made["LD_LIBRARY_PATH"].endswith(":/wheel/libs:/mine")
    assert made["HOME"] == "/h"
    assert given["PATH"] == "/usr/bin"


LOAD_FAILURE = """\
I1121 08:00:00.0 1 model_lifecycle.cc:472] "loading: dialogue_tts:1"
E1121 08:00:00.0 1 model_lifecycle.cc:642] "failed to load 'dialogue_tts' version 1: {}"
error: creating server: Internal - failed to load all models
"""


@pytest.mark.parametrize(
    ("reason", "kind", "message"),
    [
        ("Internal: TritonModelException: ConfigError: no such bundle", ConfigError, "no such"),
        ("Internal: VoiceError: bad voice", VoiceError, "bad voice"),
        ("Internal: ModuleNotFoundError: No module named 'numpy'", EngineError, "numpy"),
    ],
)
def test_the_reason_of_a_model_is_raised_by_its_type(
    tmp_path: Path, reason: str, kind: type[Exception], message: str
) -> None:
    log = tmp_path / "log"
    log.write_text(LOAD_FAILURE.format(reason))

    failure = start_failure(log)

    assert type(failure) is kind
    assert message in str(failure)
    assert not str(failure).startswith("Internal")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tritonserver: error while loading shared libraries: libcudart.so", "libcudart"),
        ("E1121 grpc] failed to start GRPC server: Address already in use\nnoise", "in use"),
        ("I one\nI two\nI three", "three"),
        ("", "the log is empty"),
    ],
)
def test_other_failures_show_the_lines_that_matter(tmp_path: Path, text: str, told: str) -> None:
    log = tmp_path / "log"
    log.write_text(text)

    failure = start_failure(log)

    assert type(failure) is EngineError
    assert told in str(failure)
    assert "noise" not in str(failure)


def test_what_is_served_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        'I1121 dialogue_model.py:55] "duologue serves engine=onnx precision=int8 slots=4 '
        'kv_bytes=1024"\nI1121 other=1\n'
    )

    assert read_announcement(log) == {
        "engine": "onnx",
        "precision": "int8",
        "slots": 4,
        "kv_bytes": 1024,
    }
    log.write_text("nothing yet")
    assert read_announcement(log) == {}
