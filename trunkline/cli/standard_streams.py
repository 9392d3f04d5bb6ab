"""Standard input, output and error that are there, whoever has started us.

A program that is started with one of them closed (``>&-``, some schedulers) would give its number to the first file or
connection that it opens, and then write into that, or read from it, what was meant for the stream.
"""

from __future__ import annotations

import io
import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Put `/dev/null` in the place of each standard stream that is closed; call it before anything is opened."""
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if not _is_open(descriptor):
                os.dup2(null, descriptor)
            if null != descriptor:
                os.close(null)
            os.set_inheritable(descriptor, True)
            raw = io.FileIO(descriptor, mode, closefd=False)
            raw.name = f"<{name}>"  # as Python's own are called, and not by a number
            buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
            setattr(sys, name, io.TextIOWrapper(buffer, encoding="utf-8"))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
