# SPDX-License-Identifier: Apache-2.0
"""The gateway's log: one line per event, without audio or keys, and without text unless told so.

Lines are written by a thread of their own behind a queue that is never waited for: a full disk or
a pipe that nobody reads costs lines, which are counted, and no request its time.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from contextlib import suppress
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from typing import Any

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.setting_groups import LoggingSettings

LOGGERS = ("duologue.gateway", "uvicorn.error")
# The MegaTTS3 platform's: its log analysis counts the words of it.
PLAIN_FORMAT = "%(asctime)s [%(levelname)s] %(message)s"
MAX_WAITING = 10_000
_CLOSE_TIMEOUT_S = 2.0

LOG = logging.getLogger("duologue.gateway")


def log_event(level: int, message: str, *, error: Exception | None = None, **facts: Any) -> None:
    """Write a line that people read as text and programs by its facts.

    Args:
        level: of `logging`.
        message: what happened.
        error: whose traceback is written, too.
        **facts: names and values; in the plain format they follow the message as name=value.
    """
    LOG.log(level, message, exc_info=error, extra={"facts": facts})


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, message, and the facts of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainFormatter(logging.Formatter):
    """Any format of `logging`; the facts follow the message, and each event is one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """See `logging.Formatter`."""
        facts = "".join(f" {name}={_word(value)}" for name, value in _facts(record).items())
        record.message = f"{record.message}{facts}"
        return super().formatMessage(record)


class WaitlessHandler(logging.Handler):
    """Hands lines to a thread; where that cannot keep up, lines are dropped and counted.

    Attributes:
        num_dropped: lines that were lost, here or by a handler that failed.
    """

    def __init__(self, target: logging.Handler) -> None:
        """Write by another handler, which this one closes at its end."""
        super().__init__()
        self.num_dropped = 0
        self._target = target
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="duologue-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.num_dropped += 1

    def close(self) -> None:
        """Write what waits, for a moment at most."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # the thread hangs, and ends with the process
        self._thread.join(_CLOSE_TIMEOUT_S)
        super().close()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._target.acquire()
                try:
                    self._target.emit(record)
                finally:
                    self._target.release()
            except Exception:  # whatever a log does, it must not end
                self.num_dropped += 1
        with suppress(OSError):  # what is left goes to a disk that is full
            self._target.close()


def set_up_logging(settings: LoggingSettings) -> WaitlessHandler:
    """Send the log where the settings say: a file that is rotated, or standard error.

    Returns:
        The handler; `logging` closes it when the program ends.

    Raises:
        ConfigError: the file cannot be written, or the format is none.
    """
    try:
        target = _target(settings)
        target.setFormatter(_formatter(settings.format))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"logging.file or logging.format cannot be used: {error}") from error
    for before in LOG.handlers:
        before.close()
    handler = WaitlessHandler(target)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(settings.level)
    # What it says of itself at other times is of no use to anybody.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return handler


def num_dropped_lines() -> int:
    """Lines that the present log has lost."""
    handlers = [h for h in LOG.handlers if isinstance(h, WaitlessHandler)]
    return sum(handler.num_dropped for handler in handlers)


class _StrictFileHandler(RotatingFileHandler):
    """Lets its errors pass, so that they are counted instead of printed."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise


class _StrictStreamHandler(logging.StreamHandler[Any]):
    """The same for standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise


def _target(settings: LoggingSettings) -> logging.Handler:
    if settings.file is None:
        return _StrictStreamHandler(sys.stderr)
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    return _StrictFileHandler(
        settings.file,
        maxBytes=settings.max_size,
        backupCount=settings.backup_count,
        encoding="utf-8",
    )


def _formatter(form: str) -> logging.Formatter:
    if form == "json":
        return JsonFormatter()
    formatter = PlainFormatter(PLAIN_FORMAT if form == "plain" else form)
    # A wrong format shows with the first line, and that one is ours.
    formatter.format(LOG.makeRecord("", logging.INFO, "", 0, "", (), None))
    return formatter


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = getattr(record, "facts", {})
    return facts


def _word(value: Any) -> str:
    """A value as one word; a line end or a space in it would make two of it."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text)
