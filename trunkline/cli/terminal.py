"""Our own terminal while a remote one is shown on it: raw, and as it was before in the end, whatever the end is."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator

DEFAULT_SIZE = 24, 80


@contextlib.contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Make a terminal pass every key on, inside the block; nothing is done to what is none."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        # What is typed but not read belongs to the shell that comes after us.
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; the usual ones where the terminal does not know."""
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(descriptor)
        if size.lines > 0 and size.columns > 0:
            return size.lines, size.columns
    return DEFAULT_SIZE
