"""Structured logs of a daemon: one line an event, for a person on a terminal and as JSON elsewhere, redacted."""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

from trunkline.runtime.log_repeats import RepeatedLines
from trunkline.runtime.log_writer import LogWriter
from trunkline.runtime.peer_faults import PeerFaults
from trunkline.runtime.redaction import redact_event

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
Logger = structlog.stdlib.BoundLogger

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Foreign libraries tell at INFO what is DEBUG to whoever runs a daemon.
_CHATTY = ("aiofastnet", "aiohttp.access", "alembic", "sqlalchemy", "aiosqlite", "asyncio")


def configure_logging(
    level: LogLevel = "info", log_format: LogFormat = "auto", *, stream: TextIO | None = None
) -> None:
    """Send the logs of this process, ours and those of libraries, to `stream` (default: standard error).

    Args:
        level: the least severe level that is written.
        log_format: `console` is for people, `json` one object a line, `auto` console on a terminal and JSON elsewhere.
        stream: where to write.
    """
    stream = stream if stream is not None else sys.stderr
    handler = _handler(stream)
    handler.setFormatter(_formatter(log_format, stream))
    handler.addFilter(PeerFaults(_LEVELS[level]))
    handler.addFilter(RepeatedLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(component: str) -> Logger:
    """Return a logger whose events carry the component's name, e.g. `relay.registry`."""
    logger: Logger = structlog.stdlib.get_logger(component)
    return logger


def _handler(stream: TextIO) -> logging.Handler:
    """Return what writes in the background, or, to what has no descriptor or where there is no thread, at once."""
    try:
        return LogWriter(stream)
    except (OSError, RuntimeError):
        return logging.StreamHandler(stream)


def _shared_processors() -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(log_format: LogFormat, stream: TextIO) -> logging.Formatter:
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact_event,
            renderer,
        ],
    )
