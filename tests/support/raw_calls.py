"""Requests written by hand over verified TLS, and their answers, for tests that trust none of our own clients."""

import json
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certs.identities import Identity
from certs.tls import client_context

TIMEOUT_SECONDS = 30.0
_FRAME = struct.Struct(">BBHII")
_DATA, _SYN = 0, 1


@dataclass(frozen=True)
class RawAnswer:
    """The status and what followed the head, as far as it came."""

    status: int
    head: str
    body: bytes

    @property
    def error_code(self) -> str:
        """The `error_code` of an answer in the form of our errors; empty for others."""
        try:
            document: dict[str, Any] = json.loads(self.body)
        except ValueError:
            return ""
        return str(document.get("error_code", ""))


class RawConnection:
    """One TLS connection to a daemon of ours; a context manager."""

    def __init__(self, url: str, ca_file: str, identity: Identity | None = None) -> None:
        address = urlsplit(url)
        self.host = f"{address.hostname}:{address.port}"
        context = client_context(ca_file=Path(ca_file), identity=identity)
        plain = socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS)
        self._socket = context.wrap_socket(plain, server_hostname=address.hostname)
        self._received = b""

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, line: str, *fields: str, body: bytes = b"") -> RawAnswer:
        """Send one request and read its answer; fields are whole lines, `Host` among them."""
        framing = [f"Content-Length: {len(body)}"] if body else []
        self._socket.sendall("\r\n".join([f"{line} HTTP/1.1", *fields, *framing, "", ""]).encode() + body)
        return self._answer()

    def ended(self, within_seconds: float) -> bool:
        """Whether the daemon ends the connection in this time, without another byte."""
        self._socket.settimeout(within_seconds)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(TIMEOUT_SECONDS)

    def on_stream(self, line: str, *fields: str) -> RawAnswer:
        """Send a request on stream 1 of the link that this connection has become, in plain yamux."""
        head = "\r\n".join([f"{line} HTTP/1.1", *fields, "Connection: close", "", ""]).encode()
        self._socket.sendall(_FRAME.pack(0, _DATA, _SYN, 1, len(head)) + head)
        content = b""
        while b"\r\n\r\n" not in content:
            _, kind, _, _, length = _FRAME.unpack(self._exactly(_FRAME.size))
            content += self._exactly(length) if kind == _DATA else b""
        return _parse(content)

    def _answer(self) -> RawAnswer:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, _ = self._received.partition(b"\r\n\r\n")
        answer = _parse(head + b"\r\n\r\n")
        self._received = self._received[len(head) + 4 :]
        length = next((line for line in answer.head.lower().split("\r\n") if line.startswith("content-length:")), "")
        body = self._exactly(int(length.partition(":")[2])) if length and answer.status != 101 else b""
        return RawAnswer(answer.status, answer.head, body)

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            self._more()
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def _more(self) -> None:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionResetError("the daemon closed the connection without an answer")
        self._received += chunk


def _parse(content: bytes) -> RawAnswer:
    head, _, body = content.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    return RawAnswer(int(text.split(" ", 2)[1]), text, body)
