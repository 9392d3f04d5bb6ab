"""Tells a peer's faults from our own in what HTTP libraries log: a fault is one line, without a traceback.

aiohttp logs a malformed request, and a caller that goes away in mid-answer, as errors with a traceback. Whoever can
reach a port could so fill a log, and hide in it what matters. Nor does the line hold anything of what was sent, which
may be a part of a token. Exceptions of any other kind keep their tracebacks.
"""

import logging

from aiohttp import http_exceptions

_OWN_FAULT = "Error handling "
"""How aiohttp begins: whoever looks for errors is not to find what is none."""


class PeerFaults(logging.Filter):
    """Has a record whose exception is a peer's doing lose its traceback and become INFO; all others it passes."""

    def __init__(self, least_level: int = logging.INFO) -> None:
        """`least_level` is the least severe level that is written: above INFO, peers' faults are not."""
        super().__init__()
        self._least_level = least_level

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place if it tells of a peer's fault; whether it is to be written."""
        error = record.exc_info[1] if record.exc_info else None
        reason = _peer_fault(error) if error is not None else None
        if reason is None:
            return True
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = f"{record.getMessage().removeprefix(_OWN_FAULT)}: {reason}", ()
        return self._least_level <= logging.INFO


def _peer_fault(error: BaseException) -> str | None:
    if isinstance(error, http_exceptions.HttpProcessingError):
        return f"malformed request: {type(error).__name__}"
    if isinstance(error, ConnectionError):
        return "the caller went away"
    return None
