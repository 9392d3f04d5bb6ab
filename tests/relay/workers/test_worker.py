"""A worker's first look at what its parent tells it."""

import json
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from relay.workers.messages import OTHER_RELEASE_STATUS
from relay.workers.worker import main


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A worker ignores signals, which the process of the tests must not do afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("words", [{}, {"release": "0.0.9"}])
def test_a_worker_of_another_release_than_its_parent_ends(words: dict[str, Any]) -> None:
    said = json.dumps({"type": "start", "settings": {"what": "it does not know"}, **words}).encode()
    parent, control = socket.socketpair()
    passing, handed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with parent, passing, handed:
        parent.sendall(struct.pack("!I", len(said)) + said)
        status = main([str(control.detach()), str(handed.fileno())])
    assert status == OTHER_RELEASE_STATUS
