"""Bounds what is said over and over: of a warning or error in the very same words, some a minute are written.

A disk that is full makes every request and every look of a daemon fail, each with a line. The next line that is
written says, as `repeated`, how many like it were not.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Final

WORDS_AT_ONCE: Final = 5
WINDOW_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 512


class RepeatedLines(logging.Filter):
    """Lets the first few of the same lines of each minute through; information is never left out."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._said: dict[bytes, tuple[float, int, int]] = {}
        """By a hash of the words: since when, how often they were said, and how many were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record; it is told how many like it were not."""
        if record.levelno < logging.WARNING or _has_traceback(record):
            return True
        words, now = _words(record), self._monotonic()
        since, said, left_out = self._said.pop(words, (now, 0, 0))
        if now - since >= WINDOW_SECONDS:
            since, said = now, 0
        is_written = said < WORDS_AT_ONCE
        if is_written and left_out:
            _tell(record, left_out)
        # As the newest: the ones that were longest silent are forgotten first.
        self._said[words] = (since, said + 1, 0 if is_written else left_out + 1)
        while len(self._said) > MOST_REMEMBERED:
            del self._said[next(iter(self._said))]
        return is_written


def _has_traceback(record: logging.LogRecord) -> bool:
    return bool(record.exc_info) or (isinstance(record.msg, dict) and "exc_info" in record.msg)


def _words(record: logging.LogRecord) -> bytes:
    said = record.getMessage()
    if isinstance(record.msg, dict):
        said = str({name: value for name, value in record.msg.items() if name != "timestamp"})
    return hashlib.blake2b(f"{record.name} {said}".encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _tell(record: logging.LogRecord, left_out: int) -> None:
    if isinstance(record.msg, dict):
        record.msg = record.msg | {"repeated": left_out}
    else:
        record.msg, record.args = f"{record.getMessage()} (repeated {left_out} times)", ()
