# SPDX-License-Identifier: Apache-2.0
"""The gateway's log: one line per event, without text, audio or keys."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.settings import LoggingSettings

LOGGERS = ("duologue.gateway", "uvicorn.error")


def set_up_logging(settings: LoggingSettings) -> None:
    """Send the log where the settings say: a file that is rotated, or standard error.

    Raises:
        ConfigError: the file cannot be written, or the format is none.
    """
    try:
        handler = _handler(settings)
        handler.setFormatter(logging.Formatter(settings.format))
    except (OSError, ValueError) as error:
        raise ConfigError(f"logging.file or logging.format cannot be used: {error}") from error
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(settings.level)
    # What it says of itself at other times is of no use to anybody.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _handler(settings: LoggingSettings) -> logging.Handler:
    if settings.file is None:
        return logging.StreamHandler()
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    return RotatingFileHandler(
        settings.file,
        maxBytes=settings.max_size,
        backupCount=settings.backup_count,
        encoding="utf-8",
    )
