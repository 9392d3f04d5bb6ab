"""The heads that the relay writes in place of those that it read: one canonical form towards each side.

Hop-by-hop fields end here (RFC 9110 section 7.6.1), and so do all fields in which the relay speaks itself. Requests
go to the node in origin-form with `Connection: close`, since a stream carries one exchange; responses get the framing
of the sender's own connection. `Via` names the relay (section 7.6.3). All fields else, `traceparent` and `tracestate`
among them, pass as they came.
"""

from typing import Final

from relay.doors.entry import Door
from relay.doors.forwarded_request import VIA, ForwardedRequest
from trunkline.channel.fields import HOP_BY_HOP, OWN_PREFIX, PLAIN_OPTIONS, Field, Framing, end_to_end
from trunkline.channel.heads import ResponseHead, status_line

__all__ = ["ForwardedRequest", "ForwardedResponse", "forward_interim", "forward_request_trailers", "forward_trailers"]

_NOT_TO_SENDERS: Final = HOP_BY_HOP | {b"proxy-status", b"trunkline-request-id"}
# What a node could set for the whole origin of the gateway, other nodes' pages included.
_NOT_BY_GATEWAY: Final = _NOT_TO_SENDERS | {
    b"set-cookie", b"set-cookie2", b"clear-site-data", b"strict-transport-security", b"alt-svc",
    b"service-worker-allowed", b"public-key-pins", b"nel", b"report-to", b"reporting-endpoints",
}  # fmt: skip
# RFC 9112 section 6.3 gives these content like any other, RFC 9110 allows a 205 none: browsers, Apache's HttpClient and
# Ruby's Net::HTTP read none, and would take what a node sends as such for the response to their next request.
_OF_TWO_ENDS: Final = frozenset({205, 305})


class ForwardedResponse:
    """A response's head for the sender, and how its content comes in and goes out.

    Attributes:
        raw: the node's head, where it is remembered.
    """

    __slots__ = ("content_length", "date", "framing", "framing_out", "head", "keep_alive", "raw", "status")

    def __init__(self, head: ResponseHead, request: ForwardedRequest, *, close: bool, date: bytes) -> None:
        self.raw = b""
        self.status: int = head.status
        # The relay's own date, where the node gave none: the head is good while that is the date.
        self.date: bytes | None = None if b"date" in head.watched else date
        self.framing: Framing = head.framing
        self.content_length: int = head.content_length or 0
        self.framing_out: Framing = _framing_out(head.framing, request.minor_version)
        last = close or self.framing_out is Framing.CLOSE or _has_two_ends(head)
        self.keep_alive: bool = request.keep_alive and not last
        self.head: bytes = _response_head(head, request, self.framing_out, keep_alive=self.keep_alive, date=date)


def _has_two_ends(head: ResponseHead) -> bool:
    """Whether clients do not agree where it ends, so that nothing may come behind it."""
    if head.status not in _OF_TWO_ENDS or head.framing is Framing.NONE:
        return False
    return head.framing is not Framing.LENGTH or head.content_length != 0


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
        VIA[1 - head.minor_version],
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
