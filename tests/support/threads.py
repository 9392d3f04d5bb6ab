"""A machine on which no more threads can be made."""

import contextlib
import threading
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def no_more_threads(*, after: int = 0) -> Iterator[None]:
    """Let only so many more threads be started."""
    start, left = threading.Thread.start, iter(range(after))

    def start_if_there_is_room(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_if_there_is_room)
        yield
