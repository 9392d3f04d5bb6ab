"""The local proxy itself: one exchange on each connection, made again on the link with a token added.

Heads are parsed as strictly as the relay parses them. Two things are refused besides: every host that is not a node of
the workspace, so that a name which a web page rebinds to 127.0.0.1 leads nowhere, and requests that another site
has a browser send (`trunkline.cli.foreign_pages`), so that a web page cannot use the proxy's tokens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from trunkline.channel.bodies import LAST_CHUNK, BodyError, BodyReader, encode_chunk
from trunkline.channel.fields import HOP_BY_HOP, Field, Framing, HeadError, end_to_end
from trunkline.channel.heads import HeadBuffer, RequestHead, parse_request_head, write_response_head
from trunkline.channel.targets import TargetForm
from trunkline.cli.foreign_pages import REFUSAL, ForeignPage, TunnelledRequest, of_foreign_page
from trunkline.cli.joining import PIECE_BYTES, break_off, join
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError, RelayRefused, TrunklineError
from trunkline.client.node import AGENT_PORT, Node
from trunkline.client.node_response import NodeResponse
from trunkline.client.sized_body import SizedBody

HEAD_SECONDS = 30.0
LEFT_SECONDS = 60.0
"""How long an answer is waited for once the local program has ended its side."""
# As the relay names its own refusals.
_ERROR_CODES = {
    403: "PERMISSION_DENIED",
    408: "DEADLINE_EXCEEDED",
    501: "NOT_IMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
    505: "NOT_IMPLEMENTED",
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED: list[Field] = [(b"Transfer-Encoding", b"chunked")]
_ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"


class _Refused(Exception):  # noqa: N818 - an expected answer
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = _ERROR_CODES.get(status, "BAD_REQUEST")


class LocalProxy:
    """Serves connections to the nodes of one workspace."""

    def __init__(self, control_plane: ControlPlane, workspace: str, suffix: str) -> None:
        self._control_plane = control_plane
        self._workspace = workspace
        self._ending = f".{workspace}.{suffix}"
        self._nodes: dict[str, Node] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, then close.

        Raises:
            TrunklineError: the answer broke off; so did the connection, since a second answer inside the first could
                be taken for its end.
        """
        try:
            head, leftover = await _read_head(reader)
            node, port = self._destination(head)
            if head.target_form is TargetForm.AUTHORITY:
                await self._connect(node, port, leftover, reader, writer)
            else:
                await self._exchange(node, port, head, leftover, reader, writer)
        except _Refused as refusal:
            await _answer(writer, refusal.status, refusal.error_code, str(refusal))
        except (ApiError, RelayRefused) as error:
            status = 502 if error.status in (0, 401, 407) else error.status
            await _answer(writer, status, error.error_code or "NODE_UNREACHABLE", str(error))
        except TrunklineError as error:
            if writer.is_closing():
                raise
            await _answer(writer, 502, "NODE_UNREACHABLE", str(error))

    def _destination(self, head: RequestHead) -> tuple[Node, int]:
        if head.target_form not in (TargetForm.ABSOLUTE, TargetForm.AUTHORITY):
            raise _Refused(400, "this is a proxy: name the node with an absolute target or CONNECT")
        if of_foreign_page(head):
            raise _Refused(403, REFUSAL)
        host = (head.host or b"").decode("ascii")
        name = host.removesuffix(self._ending)
        if name == host or not name or "." in name:
            raise _Refused(403, f"only nodes are reached here, by names such as vm-1{self._ending}")
        if name not in self._nodes:
            self._nodes[name] = self._control_plane.node(self._workspace, name)
        return self._nodes[name], head.port or AGENT_PORT

    async def _connect(
        self, node: Node, port: int, leftover: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await node.open_connection(port)
        writer.write(_ESTABLISHED)
        sent = TunnelledRequest(reader, leftover)
        await join(sent, writer, far_reader, far_writer)
        if sent.refused:
            raise ForeignPage(REFUSAL)

    async def _exchange(
        self,
        node: Node,
        port: int,
        head: RequestHead,
        leftover: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if head.upgrade is not None:  # any other is ignored, as at the relay
            raise _Refused(501, "an upgrade needs CONNECT through this proxy")
        if head.expect_continue:
            writer.write(_CONTINUE)
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in end_to_end(head.fields, HOP_BY_HOP | head.connection)
        ]
        request = _LocalRequest(head, leftover, reader)
        try:
            async with (
                request.waited_for(),
                await node.request(
                    head.method.decode(),
                    head.target_origin.decode(),
                    port=port,
                    fields=fields,
                    body=request.body,
                    timeout_seconds=None,
                ) as response,
            ):
                whole = False
                try:
                    await _relay_answer(response, head, writer, request.moved)
                    whole = True
                finally:
                    if not whole:
                        break_off(writer)
        except TimeoutError:
            if writer.is_closing():
                raise  # of an answer that had begun
            raise _Refused(504, "the node did not answer, and the local program says no more") from None


async def _read_head(reader: asyncio.StreamReader) -> tuple[RequestHead, bytes]:
    buffer = HeadBuffer()
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            while True:
                piece = await reader.read(PIECE_BYTES)
                if not piece:
                    raise ConnectionResetError
                raw = buffer.receive_data(piece)
                if raw is not None:
                    return parse_request_head(raw), buffer.leftover
    except HeadError as error:
        raise _Refused(error.status, str(error)) from None
    except TimeoutError:
        raise _Refused(408, "the request's head did not arrive in time") from None


class _LocalRequest:
    """The content of the local program's request, and how long its answer is waited for.

    There is no bound while the program is there. One that says no more may be gone, or want its answer all the same:
    then each piece of it is waited for as long as the first.

    Attributes:
        body: the content, with its length where the program gave that; None if there is none.
    """

    def __init__(self, head: RequestHead, leftover: bytes, reader: asyncio.StreamReader) -> None:
        self._head = head
        self._leftover = leftover
        self._reader = reader
        self._ended = asyncio.Event()
        self._said_no_more = False
        self.body: AsyncIterator[bytes] | SizedBody | None = None
        if head.framing is Framing.CHUNKED:
            self.body = self._pieces()
        elif head.content_length:
            self.body = SizedBody(head.content_length, self._pieces())
        else:
            self._ended.set()

    @asynccontextmanager
    async def waited_for(self) -> AsyncIterator[None]:
        """Bound the wait for the answer inside the block.

        Raises:
            TimeoutError: the program says no more, or is gone, and nothing of the answer came in time.
        """
        async with asyncio.timeout(None) as self._deadline:
            watching = asyncio.ensure_future(self._watch_program())
            try:
                yield
            finally:
                watching.cancel()

    def moved(self) -> None:
        """Something of the answer came."""
        if self._said_no_more:
            self._wait(LEFT_SECONDS)

    async def _watch_program(self) -> None:
        await self._ended.wait()
        left_seconds = LEFT_SECONDS
        try:
            while await self._reader.read(PIECE_BYTES):
                pass  # one request is served on a connection
        except OSError:
            left_seconds = 0.0  # it is gone
        self._said_no_more = True
        self._wait(left_seconds)

    def _wait(self, seconds: float) -> None:
        self._deadline.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _pieces(self) -> AsyncIterator[bytes]:
        body = BodyReader(self._head.framing, self._head.content_length)
        piece = self._leftover
        while True:
            if piece:
                try:
                    received = body.receive_data(piece)
                except BodyError as error:
                    raise _Refused(400, str(error)) from None
                for chunk in received.chunks:
                    yield bytes(chunk)
            if body.ended:
                self._ended.set()
                return
            piece = await self._reader.read(PIECE_BYTES)
            if not piece:
                raise ConnectionResetError("the local program ended its request too early")


async def _relay_answer(
    response: NodeResponse, head: RequestHead, writer: asyncio.StreamWriter, moved: Callable[[], None]
) -> None:
    fields = end_to_end(
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.fields], HOP_BY_HOP
    )
    framing = _answer_framing(response, head)
    writer.write(write_response_head(response.status, [*fields, *framing, (b"Connection", b"close")]))
    chunked = framing == _CHUNKED
    async for piece in response:
        writer.write(encode_chunk(piece) if chunked else piece)
        await writer.drain()
        moved()
    if chunked:
        writer.write(LAST_CHUNK)
    await writer.drain()


def _answer_framing(response: NodeResponse, head: RequestHead) -> list[Field]:
    """The length where the node gave it; else chunks, or the connection's end for HTTP/1.0."""
    length = response.get("content-length")
    if length:
        return [(b"Content-Length", length.encode("ascii"))]
    bodiless = head.method == b"HEAD" or response.status in (204, 304)
    return [] if bodiless or head.minor_version == 0 else _CHUNKED


async def _answer(writer: asyncio.StreamWriter, status: int, error_code: str, message: str) -> None:
    content = json.dumps({"error_code": error_code, "message": message}).encode("ascii")
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Connection", b"close"),
    ]
    writer.write(write_response_head(status, fields) + content)
    await writer.drain()
