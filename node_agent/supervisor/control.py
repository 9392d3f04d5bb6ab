"""The conversation of a supervisor with agents: the one that started it, and those that come after that one.

Lines of JSON. An agent says `{"stop": {"cause": …, "reason": …, "grace": …}}`; of a standard input that follows it says
`{"stdin_bytes": null}` when it has grown, and its length when it is whole. The supervisor says `{"started": {…}}`,
`{"failed": …}`, `{"over": true}` once nobody of the command is left, and, whenever something was written,
`{"output": [stdout, dropped of it, stderr, dropped of it]}`, with `"stdin": [passed on, whether more can be]` where an
input follows: only the newest of these counts, so that an agent that reads slowly costs no memory. What has to be known
for good is in the records, not here.
"""

import contextlib
import json
import os
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

from node_agent.supervisor.records import CONTROL_SOCKET

MAX_LINE_BYTES = 16 * 1024
MAX_CONNECTIONS = 8
_CREDENTIALS = struct.Struct("iII")

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, content: bytes) -> list[Message]:
        """Return the messages that are complete.

        Raises:
            ValueError: it is no message, or too long a one.
        """
        *lines, self._held = (self._held + content).split(b"\n")
        if len(self._held) > MAX_LINE_BYTES:
            raise ValueError("a line is too long")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a line is no message")
        return messages


class Control:
    """The connections to agents, and the socket in the command's directory at which others come in."""

    def __init__(
        self, first: socket.socket, selector: selectors.BaseSelector, heard: Callable[[Message], None]
    ) -> None:
        self._selector = selector
        self._heard = heard
        self._listening: socket.socket | None = None
        self._connections: dict[socket.socket, _Connection] = {}
        self._greeting: list[Message] = []
        self._newest: Message | None = None
        self._add(first)

    def listen(self, directory: int) -> None:
        """Let agents in at the socket of the command's directory.

        Raises:
            OSError: it cannot be made.
        """
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The path of a socket may have 108 bytes; that of the directory may have more.
        name = CONTROL_SOCKET.format(pid=os.getpid())
        self._listening.bind(f"/proc/self/fd/{directory}/{name}")  # with the umask, of mode 0600
        self._listening.setblocking(False)
        self._listening.listen(MAX_CONNECTIONS)
        self._selector.register(self._listening, selectors.EVENT_READ, lambda _: self._accept())

    def tell(self, message: Message) -> None:
        """Tell something to the agents that are here, and to each that comes."""
        self._greeting.append(message)
        for connection in list(self._connections.values()):
            connection.send(encode(message))

    def tell_newest(self, message: Message) -> None:
        """Tell something that takes the place of what was told so before."""
        if message == self._newest:
            return
        self._newest = message
        for connection in list(self._connections.values()):
            connection.renew(encode(message))

    def close(self, directory: int) -> None:
        """Say good-bye to all, and take the socket away."""
        for connection in list(self._connections.values()):
            connection.close()
        if self._listening is not None:
            self._listening.close()
            with contextlib.suppress(OSError):
                os.unlink(CONTROL_SOCKET.format(pid=os.getpid()), dir_fd=directory)

    def _accept(self) -> None:
        assert self._listening is not None  # noqa: S101 - it is what became readable
        with contextlib.suppress(OSError):
            accepted, _ = self._listening.accept()
            if len(self._connections) >= MAX_CONNECTIONS or not _is_ours(accepted):
                accepted.close()
            else:
                self._add(accepted)

    def _add(self, accepted: socket.socket) -> None:
        connection = _Connection(accepted, self._selector, self._heard, self._connections.pop)
        self._connections[accepted] = connection
        for message in self._greeting:
            connection.send(encode(message))
        if self._newest is not None:
            connection.renew(encode(self._newest))


class _Connection:
    def __init__(
        self,
        connected: socket.socket,
        selector: selectors.BaseSelector,
        heard: Callable[[Message], None],
        closed: Callable[[socket.socket, None], object],
    ) -> None:
        self._socket = connected
        self._selector = selector
        self._heard = heard
        self._closed = closed
        self._lines = Lines()
        self._unsent = b""
        self._newest: bytes | None = None
        self._open = True
        connected.setblocking(False)
        selector.register(connected, selectors.EVENT_READ, self._on_event)

    def send(self, content: bytes) -> None:
        """Send at once, or as soon as the agent reads; what has to be kept for it is a few lines."""
        self._unsent += content
        self._flush()

    def renew(self, content: bytes) -> None:
        """Send once everything before is sent, unless something newer comes meanwhile."""
        self._newest = content
        self._flush()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._selector.unregister(self._socket)
            self._socket.close()
            self._closed(self._socket, None)

    def _on_event(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ and self._open:
            self._read()

    def _read(self) -> None:
        try:
            content = self._socket.recv(MAX_LINE_BYTES)
            messages = self._lines.feed(content) if content else None
        except BlockingIOError:
            return
        except (OSError, ValueError):
            messages = None
        if messages is None:
            self.close()
            return
        for message in messages:
            self._heard(message)

    def _flush(self) -> None:
        if not self._open:
            return
        try:
            while self._unsent or self._newest is not None:
                if not self._unsent and self._newest is not None:
                    self._unsent, self._newest = self._newest, None
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        writing = selectors.EVENT_WRITE if self._unsent else 0
        self._selector.modify(self._socket, selectors.EVENT_READ | writing, self._on_event)


def _is_ours(connected: socket.socket) -> bool:
    """Whether the other side is of the agent's own user, or root."""
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(packed)[1] in (0, os.geteuid())
