"""HTTP/1.1 as h11, llhttp and http.client read it: what parsers that know nothing of ours find in some bytes."""

import http.client
import io
from dataclasses import dataclass

import h11
import httptools

MOST_MESSAGES = 4
MAX_HEAD_BYTES = 100_000


@dataclass(frozen=True)
class Message:
    """A request (`what` is its method and target) or a response (its status); `content` may be only its beginning."""

    what: tuple[bytes, ...]
    content: bytes
    whole: bool


def _ended(message: Message, connection: h11.Connection) -> bool:
    return not message.whole or h11.MUST_CLOSE in (connection.our_state, connection.their_state)


def _rest_of_message(connection: h11.Connection, what: tuple[bytes, ...]) -> Message:
    content = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            content += bytes(event.data)
    except h11.RemoteProtocolError:
        return Message(what, content, whole=False)
    return Message(what, content, whole=isinstance(event, h11.EndOfMessage))


def requests_by_h11(raw: bytes) -> list[Message]:
    """The requests that a server finds, up to the first of which not all is there, or behind which it would close."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    server.receive_data(raw)
    found: list[Message] = []
    try:
        while len(found) < MOST_MESSAGES and isinstance(event := server.next_event(), h11.Request):
            found.append(_rest_of_message(server, (event.method, event.target)))
            if not found[-1].whole:
                break
            server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            server.send(h11.EndOfMessage())
            if _ended(found[-1], server):
                break
            server.start_next_cycle()
    except h11.RemoteProtocolError:
        pass
    return found


def responses_by_h11(raw: bytes, methods: list[bytes]) -> tuple[list[Message], bytes]:
    """The final responses that a client finds to requests of these methods, and what came behind them.

    The bytes are all that comes: a response may end with them. Interim responses are passed over.
    """
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    found: list[Message] = []
    client.receive_data(raw)
    client.receive_data(b"")
    try:
        for method in methods:
            client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
            client.send(h11.EndOfMessage())
            while isinstance(event := client.next_event(), h11.InformationalResponse):
                pass
            if not isinstance(event, h11.Response):
                break
            found.append(_rest_of_message(client, (b"%d" % event.status_code,)))
            if _ended(found[-1], client):
                break
            client.start_next_cycle()
    except h11.RemoteProtocolError:
        pass
    return found, bytes(client.trailing_data[0])


class _Connection:
    """What http.client needs of a socket: the bytes that came on it, one response after the other."""

    def __init__(self, raw: bytes) -> None:
        self._received = io.BytesIO(raw)

    def makefile(self, _mode: str) -> "_Connection":
        return self

    def readline(self, most_bytes: int = -1) -> bytes:
        return self._received.readline(most_bytes)

    def read(self, size_bytes: int = -1) -> bytes:
        return self._received.read(size_bytes)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def responses_by_http_client(raw: bytes, methods: list[bytes]) -> list[Message]:
    """The responses that http.client takes for final, up to the first that is not whole or behind which it closes."""
    connection, found = _Connection(raw), list[Message]()
    for method in methods:
        response = http.client.HTTPResponse(connection, method=method.decode())  # type: ignore[arg-type]
        try:
            response.begin()
            found.append(Message((b"%d" % response.status,), response.read(), whole=True))
        except http.client.HTTPException:
            break
        if response.will_close:
            break
    return found


class _Collected:
    """What the callbacks of httptools tell."""

    parser: httptools.HttpRequestParser

    def __init__(self) -> None:
        self.found: list[Message] = []
        self._target = self._content = b""
        self._in_message = False

    def on_message_begin(self) -> None:
        self._target = self._content = b""
        self._in_message = True

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_body(self, piece: bytes) -> None:
        self._content += piece

    def on_message_complete(self) -> None:
        self._keep(whole=True)

    def keep_part(self) -> None:
        if self._in_message and self._target:
            self._keep(whole=False)

    def _keep(self, *, whole: bool) -> None:
        self.found.append(Message((self.parser.get_method(), self._target), self._content, whole))
        self._in_message = False


def requests_by_llhttp(raw: bytes) -> list[Message]:
    """The requests that llhttp finds, the last of them perhaps only in part."""
    collected = _Collected()
    collected.parser = httptools.HttpRequestParser(collected)
    try:
        collected.parser.feed_data(raw)
        collected.keep_part()
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    return collected.found
