"""Tells a peer's faults from our own in what HTTP libraries log: a fault is one line, without a traceback.

aiohttp logs a malformed request, and a caller that goes away in mid-answer, as errors with a traceback. Whoever can
reach a port could so fill a log, and hide in it what matters. Exceptions of any other kind keep theirs.
"""

import logging

from aiohttp import http_exceptions

_REASON_CHARACTERS = 120
_OWN_FAULT = "Error handling "
"""How aiohttp begins: whoever looks for errors is not to find what is none."""


class PeerFaults(logging.Filter):
    """Passes every record; one whose exception is a peer's doing loses its traceback and becomes INFO."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place if it tells of a peer's fault."""
        error = record.exc_info[1] if record.exc_info else None
        reason = _peer_fault(error) if error is not None else None
        if reason is not None:
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = f"{record.getMessage().removeprefix(_OWN_FAULT)}: {reason}", ()
        return True


def _peer_fault(error: BaseException) -> str | None:
    if isinstance(error, http_exceptions.HttpProcessingError):
        first_line = str(error.message).partition("\n")[0]
        return f"malformed request: {first_line[:_REASON_CHARACTERS].rstrip(':')!r}"
    if isinstance(error, ConnectionError):
        return "the caller went away"
    return None
