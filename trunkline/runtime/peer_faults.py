"""Tells a peer's faults from our own in what HTTP libraries log: a fault is one line, without a traceback.

aiohttp logs a malformed request, and a caller that goes away in mid-answer, as errors with a traceback. Whoever can
reach a port could so fill a log, and hide in it what matters. Nor does the line hold anything of what was sent, which
may be a part of a token. So that a stranger who sends nothing else fills no disk, few of these lines are written, and
how many were not is told by the next. Exceptions of any other kind keep their tracebacks, and are all written.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import http_exceptions

FAULTS_AT_ONCE: Final = 60
WINDOW_SECONDS: Final = 60.0
"""So many faults of all peers together are told of in so long."""
_OWN_FAULT = "Error handling "
"""How aiohttp begins: whoever looks for errors is not to find what is none."""


class PeerFaults(logging.Filter):
    """Has a record whose exception is a peer's doing lose its traceback and become INFO; all others it passes."""

    def __init__(self, least_level: int = logging.INFO, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`least_level` is the least severe level that is written: above INFO, peers' faults are not."""
        super().__init__()
        self._least_level = least_level
        self._monotonic = monotonic
        self._since = monotonic()
        self._faults = 0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place if it tells of a peer's fault; whether it is to be written."""
        error = record.exc_info[1] if record.exc_info else None
        reason = _peer_fault(error) if error is not None else None
        if reason is None:
            return True
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = f"{record.getMessage().removeprefix(_OWN_FAULT)}: {reason}", ()
        return self._least_level <= logging.INFO and self._is_told(record)

    def _is_told(self, record: logging.LogRecord) -> bool:
        """Whether a fault is one of the few that are written; it tells how many before it were not."""
        now = self._monotonic()
        if now - self._since >= WINDOW_SECONDS:
            self._since, self._faults = now, 0
        self._faults += 1
        if self._faults > FAULTS_AT_ONCE:
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"{record.msg} ({self._left_out} faults of callers before were not written)"
            self._left_out = 0
        return True


def _peer_fault(error: BaseException) -> str | None:
    if isinstance(error, http_exceptions.HttpProcessingError):
        return f"malformed request: {type(error).__name__}"
    if isinstance(error, ConnectionError):
        return "the caller went away"
    return None
