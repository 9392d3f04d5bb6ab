"""Handing over the ends of links between workers: a descriptor and a few words in one packet (SCM_RIGHTS, unix(7))."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import NamedTuple

MAX_WORDS_BYTES = 1024


class End(NamedTuple):
    """One end of a link to another worker.

    Attributes:
        worker: the other one.
        client: whether this end opens odd streams.
    """

    worker: int
    client: bool
    socket: socket.socket


def hand_over(passing: socket.socket, end: End) -> None:
    """Send an end to the worker that is to have it; to one that is gone, or takes none, it is not sent."""
    words = json.dumps({"worker": end.worker, "client": end.client}).encode()
    with contextlib.suppress(OSError):
        socket.send_fds(passing, [words], [end.socket.fileno()])


def handed_in(passing: socket.socket) -> Iterator[End]:
    """Yield the ends that have come, on a socket that does not block.

    Raises:
        EOFError: the parent is gone.
    """
    while True:
        try:
            words, descriptors, _, _ = socket.recv_fds(passing, MAX_WORDS_BYTES, 1)
        except BlockingIOError:
            return
        if not words:
            raise EOFError("the parent is gone")
        told = json.loads(words)
        end = socket.socket(fileno=descriptors[0])
        end.setblocking(False)
        yield End(told["worker"], told["client"], end)
