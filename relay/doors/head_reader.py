"""Heads on the data path: a line, a credential, a name is understood once; a whole head that comes again not at all.

What is remembered is aged about once a minute, so that it follows what is in use; without that, every short-lived token
would stay for thousands of others.
"""

from collections.abc import Mapping
from typing import Final

from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door, DoorRefusal, Doors, Entry, LinkAttempt, ReadinessQuestion
from relay.doors.forwarding import ForwardedRequest, ForwardedResponse
from relay.doors.known_requests import MAX_KNOWN_HEAD_BYTES, SEEN_HEADS_BITS, KnownRequests
from relay.doors.known_responses import KnownResponses
from trunkline.channel.fields import Framing, read_field_line
from trunkline.channel.heads import Readers, RequestHead, ResponseHead, parse_request_head, parse_response_head
from trunkline.channel.memo import Marks, Memo
from trunkline.channel.targets import parse_authority

KNOWN_LINES: Final = 4096
MAX_KNOWN_LINE_BYTES: Final = 1024
KNOWN_AUTHORITIES: Final = 1024


class HeadReader:
    """Reads the heads of all calls; one for a relay. What it remembers is bounded, and a pure function of the bytes.

    Attributes:
        by_connection: requests that came before on connections.
        by_link: the same for streams of senders' links.
    """

    __slots__ = (
        "_authorities", "_counts", "_doors", "_lines", "_names", "_readers", "_responses", "_seen", "by_connection",
        "by_link",
    )  # fmt: skip

    def __init__(self, names: NodeNames, counts: Mapping[Door, DoorCounts]) -> None:
        self._names = names
        self._counts = counts
        self._doors = Doors(names)
        self._lines = Memo(read_field_line, generation_entries=KNOWN_LINES, max_key_bytes=MAX_KNOWN_LINE_BYTES)
        self._authorities = Memo(
            parse_authority, generation_entries=KNOWN_AUTHORITIES, max_key_bytes=MAX_KNOWN_LINE_BYTES
        )
        self._readers = Readers(self._lines, self._authorities)
        self._seen = Marks(SEEN_HEADS_BITS)
        self._responses: dict[tuple[Door, bool], KnownResponses] = {}
        self.by_connection = KnownRequests()
        self.by_link = KnownRequests()

    def age(self) -> None:
        """Forgets what has not been asked for since the time before the last."""
        self._lines.age()
        self._authorities.age()
        self._doors.age()
        self._names.age()
        self.by_connection.age()
        self.by_link.age()
        for responses in self._responses.values():
            responses.age()

    def read_on_connection(self, raw: bytes) -> ForwardedRequest | DoorRefusal | LinkAttempt | ReadinessQuestion:
        """Understands a whole request head that came on a connection; raises HeadError."""
        known = self.by_connection.find(raw)
        if known is not None:
            return known
        head = parse_request_head(raw, self._readers)
        entry = self._doors.choose(head)
        if not isinstance(entry, Entry):
            return entry
        return self._forwarded(raw, head, entry, self.by_connection)

    def read_on_link(self, raw: bytes) -> ForwardedRequest | DoorRefusal:
        """Understands a whole request head that came on a stream of a sender's link; raises HeadError."""
        known = self.by_link.find(raw)
        if known is not None:
            return known
        head = parse_request_head(raw, self._readers)
        entry = self._doors.enter_by_link(head)
        if not isinstance(entry, Entry):
            return entry
        return self._forwarded(raw, head, entry, self.by_link)

    def parse_response(self, raw: bytes, request: ForwardedRequest) -> ResponseHead:
        """Parses a whole response head; raises HeadError."""
        return parse_response_head(raw, request_method=request.method, upgrade=request.upgrade, readers=self._readers)

    def known_response(self, data: bytes, request: ForwardedRequest, date: bytes) -> ForwardedResponse | None:
        """What was made before of the head that a response begins with, for such a request, while it is still true."""
        known = request.known_responses
        response = known.find(data) if known is not None else None
        return response if response is not None and (response.date is None or response.date is date) else None

    def keep_response(self, raw: bytes, request: ForwardedRequest, response: ForwardedResponse) -> None:
        """Remembers what was made of a response's head, where it depends on nothing else."""
        known = request.known_responses
        if known is not None and len(raw) <= MAX_KNOWN_HEAD_BYTES and self._seen.add(hash(raw)):
            known.keep(raw, response)

    def _forwarded(self, raw: bytes, head: RequestHead, entry: Entry, known: KnownRequests) -> ForwardedRequest:
        request = ForwardedRequest.of(head, entry, self._names, self._counts[entry.door])
        if request.has_plain_response:
            of_door = (request.door, request.keep_alive)
            responses = self._responses.get(of_door)
            if responses is None:
                responses = self._responses[of_door] = KnownResponses()
            request.known_responses = responses
        if request.framing is Framing.NONE and len(raw) <= MAX_KNOWN_HEAD_BYTES:
            request.keep_lines(raw, head)
            known.keep(raw, request)
        return request
