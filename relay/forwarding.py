"""The heads that the relay writes in place of those that it read: one canonical form towards each side.

Hop-by-hop fields end here (RFC 9110 section 7.6.1), and so do all fields in which the relay speaks itself. Requests
go to the node in origin-form with `Connection: close`, since a stream carries one exchange; responses get the framing
of the sender's own connection. `Via` names the relay (section 7.6.3). All fields else, `traceparent` and `tracestate`
among them, pass as they came.
"""

from typing import Final

from relay.credentials import Destination
from relay.destinations import NodeNames
from relay.door_counts import DoorCounts
from relay.doors import Door, Entry
from relay.grants import Grant
from trunkline.channel.fields import HOP_BY_HOP, OWN_PREFIX, PLAIN_OPTIONS, Field, Framing, end_to_end
from trunkline.channel.heads import RequestHead, ResponseHead, status_line
from trunkline.channel.memo import Generations

_VIA: Final = b"Via: 1.1 trunkline\r\n", b"Via: 1.0 trunkline\r\n"
_NOT_TO_NODES: Final = HOP_BY_HOP | {b"host", b"expect"}
# Credentials and cookies at the gateway belong to the relay's origin, which all nodes share.
_NOT_TO_NODES_BY_GATEWAY: Final = _NOT_TO_NODES | {b"authorization", b"cookie"}
_NOT_TO_SENDERS: Final = HOP_BY_HOP | {b"proxy-status", b"trunkline-request-id"}
# What a node could set for the whole origin of the gateway, other nodes' pages included.
_NOT_BY_GATEWAY: Final = _NOT_TO_SENDERS | {
    b"set-cookie", b"set-cookie2", b"clear-site-data", b"strict-transport-security", b"alt-svc",
    b"service-worker-allowed", b"public-key-pins", b"nel", b"report-to", b"reporting-endpoints",
}  # fmt: skip


class ForwardedRequest:
    """A request as the relay understood it, with the head for the node ready but for its last two fields.

    It holds nothing of one call, so that it can serve every call whose head has the same bytes.
    """

    __slots__ = (
        "_prefix", "_prefix_with_token", "content_length", "counts", "destination", "door", "expect_continue",
        "framing", "grant", "has_content", "keep_alive", "known_responses", "method", "minor_version", "raw", "token",
        "upgrade",
    )  # fmt: skip

    def __init__(self, head: RequestHead, entry: Entry, names: NodeNames, counts: DoorCounts) -> None:
        self.counts: DoorCounts = counts
        self.door: Door = entry.door
        self.destination: Destination = entry.destination
        self.token: str | None = entry.token
        self.method: bytes = head.method
        self.framing: Framing = head.framing
        self.content_length: int = head.content_length
        self.has_content: bool = head.framing is Framing.CHUNKED or head.content_length > 0
        self.expect_continue: bool = head.expect_continue
        self.upgrade: bytes | None = head.upgrade
        self.minor_version: int = head.minor_version
        # What comes behind a CONNECT or an Upgrade that is refused may be meant for the other protocol.
        ambiguous = head.names_upgrade or head.framing is Framing.TUNNEL
        self.keep_alive: bool = head.keep_alive and not ambiguous and entry.door is not Door.LINK
        self.known_responses: Generations[bytes, ForwardedResponse] | None = None
        self.raw: bytes | None = None
        """The head's bytes, where the next head may be the same."""
        self.grant: Grant | None = None
        """What admission said to the last call; it is not good until admission says so of the next one too."""
        self._prefix: bytes = _request_prefix(head, entry, names) + b"Proxy-Authorization: Bearer "
        token = (entry.token or "").encode("ascii")
        self._prefix_with_token: bytes = self._prefix + token + b"\r\nTrunkline-Request-Id: "

    @property
    def has_plain_response(self) -> bool:
        """Whether the response's head depends on nothing but its own bytes, the door and `keep_alive`."""
        return self.minor_version == 1 and self.upgrade is None and self.method not in (b"HEAD", b"CONNECT")

    def head(self, assertion: str | None, request_id: str) -> bytes:
        """The whole head for the node, with the sender's token, or the relay's assertion in its place."""
        if assertion is None:
            return b"%b%b\r\n\r\n" % (self._prefix_with_token, request_id.encode("ascii"))
        proof = f"{assertion}\r\nTrunkline-Request-Id: {request_id}\r\n\r\n"
        return self._prefix + proof.encode("ascii")


def _request_prefix(head: RequestHead, entry: Entry, names: NodeNames) -> bytes:
    connect = head.framing is Framing.TUNNEL
    authority = names.authority(entry.destination, with_port=connect)
    target = authority if connect else entry.target
    dropped = _NOT_TO_NODES_BY_GATEWAY if entry.door is Door.GATEWAY else _NOT_TO_NODES
    if head.framing is Framing.CHUNKED:
        dropped -= {b"trailer"}
    if not head.connection <= PLAIN_OPTIONS:
        dropped |= head.connection
    return b"".join((
        b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, target, authority),
        *[line.text for line in head.lines if line.name not in dropped and not line.own],
        _VIA[1 - head.minor_version],
        _request_framing(head),
        b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade if head.upgrade else b"Connection: close\r\n",
    ))  # fmt: skip


def _request_framing(head: RequestHead) -> bytes:
    expect = b"Expect: 100-continue\r\n" if head.expect_continue else b""
    if head.framing is Framing.LENGTH:
        return b"%bContent-Length: %d\r\n" % (expect, head.content_length)
    return b"%bTransfer-Encoding: chunked\r\n" % expect if head.framing is Framing.CHUNKED else b""


class ForwardedResponse:
    """A response's head for the sender, and how its content comes in and goes out."""

    __slots__ = ("content_length", "date", "framing", "framing_out", "head", "keep_alive", "status")

    def __init__(self, head: ResponseHead, request: ForwardedRequest, *, close: bool, date: bytes) -> None:
        self.status: int = head.status
        # The relay's own date, where the node gave none: the head is good while that is the date.
        self.date: bytes | None = None if b"date" in head.watched else date
        self.framing: Framing = head.framing
        self.content_length: int = head.content_length or 0
        self.framing_out: Framing = _framing_out(head.framing, request.minor_version)
        self.keep_alive: bool = not close and request.keep_alive and self.framing_out is not Framing.CLOSE
        self.head: bytes = _response_head(head, request, self.framing_out, keep_alive=self.keep_alive, date=date)


def _framing_out(framing: Framing, minor_version: int) -> Framing:
    """What a node ends by closing its stream, or sends in chunks, goes out in chunks, where the sender knows them."""
    if framing in (Framing.CHUNKED, Framing.CLOSE):
        return Framing.CHUNKED if minor_version == 1 else Framing.CLOSE
    return framing


def _response_head(
    head: ResponseHead, request: ForwardedRequest, framing_out: Framing, *, keep_alive: bool, date: bytes
) -> bytes:
    dropped = _NOT_BY_GATEWAY if request.door is Door.GATEWAY else _NOT_TO_SENDERS
    if head.framing is Framing.CHUNKED and framing_out is Framing.CHUNKED:
        dropped -= {b"trailer"}
    if not head.connection <= PLAIN_OPTIONS:
        dropped |= head.connection
    return b"".join((
        status_line(head.status),
        *[line.text for line in head.lines if line.name not in dropped],
        # RFC 9110 section 6.6.1: who forwards a response without Date has to add it.
        b"" if b"date" in head.watched or head.status < 200 else b"Date: %b\r\n" % date,
        _VIA[1 - head.minor_version],
        _response_framing(head, framing_out),
        _response_connection(head, keep_alive=keep_alive),
        b"\r\n",
    ))  # fmt: skip


def _response_framing(head: ResponseHead, framing_out: Framing) -> bytes:
    if framing_out is Framing.CHUNKED:
        return b"Transfer-Encoding: chunked\r\n"
    if head.content_length is not None:
        return b"Content-Length: %d\r\n" % head.content_length
    return b""


def _response_connection(head: ResponseHead, *, keep_alive: bool) -> bytes:
    if head.upgrade is not None:
        return b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    if keep_alive or head.framing is Framing.TUNNEL or head.status < 200:
        return b""
    return b"Connection: close\r\n"


def forward_interim(head: ResponseHead, request: ForwardedRequest) -> bytes:
    """An interim response for the sender (RFC 9110 section 15.2)."""
    return _response_head(head, request, Framing.NONE, keep_alive=True, date=b"")


def forward_trailers(fields: list[Field], door: Door) -> list[Field]:
    """The trailers that go to a sender: hop-by-hop fields never get this far; the gateway drops its own set too."""
    return end_to_end(fields, _NOT_BY_GATEWAY if door is Door.GATEWAY else _NOT_TO_SENDERS)


def forward_request_trailers(fields: list[Field]) -> list[Field]:
    """The trailers that go to a node: without those in whose names the relay speaks."""
    return [field for field in fields if not field[0].lower().startswith(OWN_PREFIX)]
