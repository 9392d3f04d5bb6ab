"""A request as the relay forwards it: the canonical head for the node, and requests that are made like another.

Most heads of one sender differ from each other in fields that the relay only passes on, such as `traceparent`, if at
all. So a request can be made like one that was understood before: each line that is new is matched by the grammar and
has to be of a field without any meaning to the relay, and every other byte has to be the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.admission.grants import Grant
from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door, Entry
from relay.doors.varying_value import VaryingValue
from relay.trust.credentials import Destination
from trunkline.channel.fields import (
    HOP_BY_HOP,
    PLAIN_OPTIONS,
    FieldLine,
    Framing,
    HeadError,
    is_field_value,
    read_field_line,
)
from trunkline.channel.heads import RequestHead

if TYPE_CHECKING:
    from relay.doors.known_responses import KnownResponses

VIA: Final = b"Via: 1.1 trunkline\r\n", b"Via: 1.0 trunkline\r\n"
_PROOF: Final = b"Proxy-Authorization: Bearer "
_NOT_TO_NODES: Final = HOP_BY_HOP | {b"host", b"expect"}
# Credentials and cookies at the gateway belong to the relay's origin, which all nodes share.
_NOT_TO_NODES_BY_GATEWAY: Final = _NOT_TO_NODES | {b"authorization", b"cookie"}


class ForwardedRequest:
    """A request as the relay understood it, with the head for the node ready but for its last two fields.

    It holds nothing of one call, so that it can serve every call whose head has the same bytes. Make it by `of`, or by
    `alike` of another.

    Attributes:
        known_responses: what was made of the heads of responses to such requests; None where that depends on more.
        raw: the head's bytes, where the next head may be the same.
        grant: what admission said to the last call; it is not good until admission says so of the next one too. Of a
            request made by `alike` it is the kin's that counts.
        kin: the request that it was made like.
    """

    __slots__ = (
        "_before", "_behind", "_head", "_lines", "_names", "_pieces", "_places", "_proof_bytes", "_varying",
        "content_length", "counts", "destination", "door", "expect_continue", "framing", "grant", "has_content",
        "keep_alive", "kin", "known_responses", "method", "minor_version", "raw", "token", "upgrade",
    )  # fmt: skip

    counts: DoorCounts
    door: Door
    destination: Destination
    token: str | None
    method: bytes
    framing: Framing
    content_length: int
    has_content: bool
    expect_continue: bool
    upgrade: bytes | None
    minor_version: int
    keep_alive: bool
    known_responses: KnownResponses | None
    raw: bytes | None
    grant: Grant | None
    kin: ForwardedRequest | None
    _head: bytes
    """For the node, with the token, up to the request id."""
    _proof_bytes: int
    """How far before the end of `_head` the token begins."""
    _before: bytes
    """All lines before the first that means nothing to the relay."""
    _lines: list[bytes] | None
    """From there to the last such line, as they came, without their CRLF; None if nothing may be made like it."""
    _behind: bytes
    """The CRLF of that line, and all that follows."""
    _places: list[int]
    """Where each line is in `_pieces`; 0 if it means anything to the relay."""
    _names: list[bytes]
    """How each line begins in canonical form, up to its value."""
    _pieces: list[bytes]
    """Of `_head`."""
    _varying: VaryingValue | None
    """The value in which the last request that was made like this one differed from it, if it was but one."""

    @staticmethod
    def of(head: RequestHead, entry: Entry, names: NodeNames, counts: DoorCounts) -> ForwardedRequest:
        """Makes of a head, and of where it goes, what the relay forwards."""
        request = ForwardedRequest()
        request.counts = counts
        request.door = entry.door
        request.destination = entry.destination
        request.token = entry.token
        request.method = head.method
        request.framing = head.framing
        request.content_length = head.content_length
        request.has_content = head.framing is Framing.CHUNKED or head.content_length > 0
        request.expect_continue = head.expect_continue
        request.upgrade = head.upgrade
        request.minor_version = head.minor_version
        # What comes behind a CONNECT or an Upgrade that is refused may be meant for the other protocol.
        ambiguous = head.names_upgrade or head.framing is Framing.TUNNEL
        request.keep_alive = head.keep_alive and not ambiguous and entry.door is not Door.LINK
        request.known_responses = None
        request.raw = None
        request.grant = None
        request.kin = None
        proof = _PROOF + (entry.token or "").encode("ascii") + b"\r\nTrunkline-Request-Id: "
        request._pieces = [*_request_pieces(head, entry, names), proof]
        request._head = b"".join(request._pieces)
        request._proof_bytes = len(proof) - len(_PROOF)
        request._lines = None
        request._varying = None
        return request

    @property
    def has_plain_response(self) -> bool:
        """Whether the response's head depends on nothing but its own bytes, the door and `keep_alive`."""
        return self.minor_version == 1 and self.upgrade is None and self.method not in (b"HEAD", b"CONNECT")

    def head(self, assertion: str | None, request_id: bytes) -> bytes:
        """The whole head for the node, with the sender's token, or the relay's assertion in its place."""
        if assertion is None:
            return b"%b%b\r\n\r\n" % (self._head, request_id)
        proof = b"%b\r\nTrunkline-Request-Id: %b\r\n\r\n" % (assertion.encode("ascii"), request_id)
        return self._head[: len(self._head) - self._proof_bytes] + proof

    def keep_lines(self, raw: bytes, head: RequestHead) -> None:
        """Have others made like it: `raw` is its head, which has no content, unparsed."""
        self.raw = raw
        places = _places_of_passing(head, self.door)
        passing = [at for at, place in enumerate(places) if place]
        if not passing:
            return
        first, behind = passing[0], passing[-1] + 1
        lines = raw.split(b"\r\n")
        self._before = b"\r\n".join([*lines[:first], b""])
        self._lines = lines[first:behind]
        self._behind = b"\r\n".join([b"", *lines[behind:]])
        self._places = places[first:behind]
        self._names = [b"%b: " % line.field[0] for line in head.lines[first - 1 : behind - 1]]

    def alike(self, raw: bytes) -> ForwardedRequest | None:
        """The request of another whole head, if that differs in lines only which mean nothing to the relay."""
        if self._lines is None:
            return None
        head = self._varying.to_node(raw) if self._varying is not None else None
        if head is None:
            head = self._head_by_lines(raw, self._lines)
        return self._with(raw, head) if head is not None else None

    def _head_by_lines(self, raw: bytes, mine: list[bytes]) -> bytes | None:
        """What goes to the node of a head that is like this one's, found line by line."""
        start, end = len(self._before), len(raw) - len(self._behind)
        if start > end or not raw.startswith(self._before) or not raw.endswith(self._behind):
            return None  # where the two would overlap the head has fewer lines
        lines = raw[start:end].split(b"\r\n")
        if len(lines) != len(mine):
            return None
        pieces = self._pieces.copy()
        differing = []
        for at, line in enumerate(lines):
            if line != mine[at]:
                place = self._places[at]
                text = self._passing_text(at, line) if place else None
                if text is None:
                    return None
                pieces[place] = text
                differing.append(at)
        if len(differing) == 1:
            self._note_varying(raw, lines, differing[0])
        return b"".join(pieces)

    def _note_varying(self, raw: bytes, lines: list[bytes], at: int) -> None:
        """Has the next head compared with this one at once but for the value of this line, where only that differs."""
        name, line, place = self._names[at], lines[at], self._places[at]
        if line.startswith(name):
            line_at = len(self._before) + sum([len(earlier) + len(b"\r\n") for earlier in lines[:at]])
            self._varying = VaryingValue(
                raw[: line_at + len(name)],
                raw[line_at + len(line) :],
                b"".join([*self._pieces[:place], name]),
                b"".join([b"\r\n", *self._pieces[place + 1 :]]),
            )

    def _passing_text(self, at: int, line: bytes) -> bytes | None:
        """What goes on of a line in place of the passing one there; None if it is not of a passing field.

        Most often only the value is another one, and the line is canonical: then only the value's grammar is asked.
        """
        name = self._names[at]
        if line.startswith(name) and is_field_value(line[len(name) :]):
            return line + b"\r\n"
        return _passing_text(line)

    def _with(self, raw: bytes, head: bytes) -> ForwardedRequest:
        other = ForwardedRequest()
        other.counts = self.counts
        other.door = self.door
        other.destination = self.destination
        other.token = self.token
        other.method = self.method
        other.framing = self.framing
        other.content_length = self.content_length
        other.has_content = self.has_content
        other.expect_continue = self.expect_continue
        other.upgrade = self.upgrade
        other.minor_version = self.minor_version
        other.keep_alive = self.keep_alive
        other.known_responses = self.known_responses
        other.raw = raw
        other.grant = None
        other.kin = self
        other._head = head
        other._proof_bytes = self._proof_bytes
        other._lines = None
        return other


def _request_pieces(head: RequestHead, entry: Entry, names: NodeNames) -> list[bytes]:
    """The start line, each field that goes on, and the relay's own."""
    connect = head.framing is Framing.TUNNEL
    authority = names.authority(entry.destination, with_port=connect)
    target = authority if connect else entry.target
    dropped = _dropped(head, entry.door)
    return [
        b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, target, authority),
        *[line.text for line in head.lines if line.name not in dropped and not line.own],
        VIA[1 - head.minor_version],
        _request_framing(head),
        b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade if head.upgrade else b"Connection: close\r\n",
    ]


def _dropped(head: RequestHead, door: Door) -> frozenset[bytes]:
    dropped = _NOT_TO_NODES_BY_GATEWAY if door is Door.GATEWAY else _NOT_TO_NODES
    if head.framing is Framing.CHUNKED:
        dropped -= {b"trailer"}
    if not head.connection <= PLAIN_OPTIONS:
        dropped |= head.connection
    return dropped


def _places_of_passing(head: RequestHead, door: Door) -> list[int]:
    """For each line of the head, the first included, its place among `_request_pieces` if it passes, else 0."""
    if not head.connection <= PLAIN_OPTIONS:
        return []  # a line may be dropped for its name only
    dropped = _dropped(head, door)
    places, place = [0], 1
    for line in head.lines:
        places.append(place if _passes(line) else 0)
        if line.name not in dropped and not line.own:
            place += 1
    return places


def _passes(line: FieldLine) -> bool:
    """Whether a line of a request goes on to the node by any door, and means nothing to the relay."""
    return not line.watched and not line.own and line.name not in _NOT_TO_NODES_BY_GATEWAY


def _passing_text(text: bytes) -> bytes | None:
    """What goes on of a line, given without its CRLF, that means nothing to the relay; None of every other."""
    try:
        line = read_field_line(text)
    except HeadError:
        return None
    return line.text if _passes(line) else None


def _request_framing(head: RequestHead) -> bytes:
    expect = b"Expect: 100-continue\r\n" if head.expect_continue else b""
    if head.framing is Framing.LENGTH:
        return b"%bContent-Length: %d\r\n" % (expect, head.content_length)
    return b"%bTransfer-Encoding: chunked\r\n" % expect if head.framing is Framing.CHUNKED else b""
