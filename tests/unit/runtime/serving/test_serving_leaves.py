from __future__ import annotations

import inspect
import threading

import pytest
from fake_triton import FakeTriton, Sender, model_args

from duologue.runtime import errors
from duologue.runtime.errors import ConfigError, DuologueError, RequestError, parse_error
from duologue.runtime.serving.errors import error_response, load_failure
from duologue.runtime.serving.metrics import Load, Metric, ServingMetrics
from duologue.runtime.serving.sink import ResponseSink
from duologue.runtime.serving.triton import ModelSettings
from duologue.runtime.serving.watcher import CancellationWatcher

ERROR_TYPES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, DuologueError)
]


@pytest.mark.parametrize("kind", ERROR_TYPES)
def test_every_error_type_survives_the_wire(kind: type[DuologueError]) -> None:
    response = error_response(kind("what was wrong"), FakeTriton())

    back = parse_error(response.error().message())
    assert type(back) is kind
    assert str(back) == "what was wrong"


@pytest.mark.parametrize("text", ["", "no type", "KeyError: 'x'", "Path: /etc", "typing: x"])
def test_text_of_no_known_type_is_an_engine_error(text: str) -> None:
    back = parse_error(text)

    assert type(back) is errors.EngineError
    assert str(back) == text


def test_a_load_failure_is_one_line() -> None:
    exception = load_failure(ConfigError("two\nlines"), FakeTriton())

    assert str(exception) == "ConfigError: two lines"


def test_whatever_follows_the_end_is_dropped() -> None:
    sender = Sender()
    sink = ResponseSink(sender, FakeTriton())

    sink.finish()
    sink.finish()
    sink.send([])
    sink.finish_with([])
    sink.fail(RequestError("late"))

    assert sender.flags == [1]
    sender.cancelled = True
    assert not sink.is_cancelled()


def test_the_watcher_cancels_once_and_only_whom_it_watches() -> None:
    watcher = CancellationWatcher()
    cancelled = threading.Event()
    cancels: list[str] = []

    def cancel() -> None:
        cancels.append("a")
        cancelled.set()

    with (
        watcher.watching(lambda: True, cancel) as gone,
        watcher.watching(lambda: False, lambda: cancels.append("b")) as there,
    ):
        assert cancelled.wait(60)
    watcher.close()

    assert cancels == ["a"]
    assert gone.cancelled_at_s is not None
    assert there.cancelled_at_s is None


def test_model_settings_are_read_with_their_defaults() -> None:
    settings = ModelSettings.from_args(model_args())
    assert (settings.bundle, settings.engine, settings.max_slots) == ("default", "auto", None)
    assert (settings.codec_engine, settings.codec_device) == ("auto", "auto")

    settings = ModelSettings.from_args(
        model_args(decoupled=True, kind="GPU", bundle="/b", engine="torch", max_slots="8")
    )
    assert (settings.bundle, settings.engine, settings.max_slots) == ("/b", "torch", 8)
    assert settings.codec_device == "cuda:1"
    assert settings.is_decoupled


def test_the_place_of_the_codec_is_read_from_its_parameters() -> None:
    settings = ModelSettings.from_args(model_args(codec_engine="torch", codec_device="cpu"))
    assert (settings.codec_engine, settings.codec_device) == ("torch", "cpu")


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_number_of_slots_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="max_slots"):
        ModelSettings.from_args(model_args(max_slots=value))


def test_the_watcher_outlives_a_caller_that_cannot_be_asked() -> None:
    def broken() -> bool:
        raise RuntimeError("the request is gone")

    watcher = CancellationWatcher()
    first, second = threading.Event(), threading.Event()
    with watcher.watching(broken, first.set), watcher.watching(first.is_set, second.set):
        assert first.wait(30)
        assert second.wait(30)
    watcher.close()


def test_a_metric_that_cannot_be_written_does_not_stop_the_others() -> None:
    written = threading.Event()

    class Broken:
        def increment(self, by: float) -> None:
            raise RuntimeError("the server does not answer")

    class Good:
        def increment(self, by: float) -> None:
            written.set()

    metrics = ServingMetrics(FakeTriton(), Load)
    for number in (Broken(), Good()):
        Metric(number, metrics._writer).increment(1)
    assert written.wait(30)
    metrics.close()


def test_the_prefix_cache_is_shown_as_counters_that_only_grow() -> None:
    triton = FakeTriton()
    loads = iter(
        [
            Load(1, 2, prefix_hits=1, prefix_misses=3, prefix_bytes=100),
            Load(1, 0, prefix_hits=4, prefix_misses=3, prefix_evictions=2, prefix_bytes=50),
            Load(prefix_hits=4, prefix_misses=5, prefix_evictions=2, prefix_bytes=50),
        ]
    )
    metrics = ServingMetrics(triton, lambda: next(loads))
    for _ in range(3):
        metrics.active_streams.increment(1)
    metrics.close()

    names = ("hits_total", "misses_total", "evictions_total", "bytes")
    assert [triton.value(f"duologue_prefix_cache_{name}") for name in names] == [4, 5, 2, 50]
    assert triton.value("duologue_running_sequences") == 0
