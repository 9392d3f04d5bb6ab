"""Heads on the data path: a line, a credential, a name is understood once; a whole head that comes again not at all.

What is remembered is aged about once a minute, so that it follows what is in use; without that, every short-lived token
would stay for thousands of others.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from relay.destinations import NodeNames
from relay.door_counts import DoorCounts
from relay.doors import Door, DoorRefusal, Doors, Entry, LinkAttempt
from relay.forwarding import ForwardedRequest, ForwardedResponse
from trunkline.channel.fields import Framing, read_field_line
from trunkline.channel.heads import Readers, ResponseHead, parse_request_head, parse_response_head
from trunkline.channel.memo import Generations, Memo
from trunkline.channel.targets import parse_authority

KNOWN_HEADS: Final = 512
MAX_KNOWN_HEAD_BYTES: Final = 4096
SEEN_HEADS: Final = 16 * KNOWN_HEADS
KNOWN_LINES: Final = 4096
MAX_KNOWN_LINE_BYTES: Final = 1024
KNOWN_AUTHORITIES: Final = 1024

V = TypeVar("V")


class HeadReader:
    """Reads the heads of all calls; one for a relay. What it remembers is bounded, and a pure function of the bytes.

    Attributes:
        by_connection: requests by the bytes of their heads, as they came before on connections.
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
        self._seen: Generations[int, bool] = Generations(SEEN_HEADS)
        self._responses: dict[tuple[Door, bool], Generations[bytes, ForwardedResponse]] = {}
        self.by_connection: Generations[bytes, ForwardedRequest] = Generations(KNOWN_HEADS)
        self.by_link: Generations[bytes, ForwardedRequest] = Generations(KNOWN_HEADS)

    def age(self) -> None:
        """Forgets what has not been asked for since the time before the last."""
        self._lines.age()
        self._authorities.age()
        self._doors.age()
        self._names.age()
        self._seen.age()
        self.by_connection.age()
        self.by_link.age()
        for responses in self._responses.values():
            responses.age()

    def read_on_connection(self, raw: bytes) -> ForwardedRequest | DoorRefusal | LinkAttempt:
        """Understands a whole request head that came on a connection; raises HeadError."""
        known = self.by_connection.get(raw)
        if known is not None:
            return known
        head = parse_request_head(raw, self._readers)
        entry = self._doors.choose(head)
        if not isinstance(entry, Entry):
            return entry
        request = ForwardedRequest(head, entry, self._names, self._counts[entry.door])
        self._keep(self.by_connection, raw, request)
        return request

    def read_on_link(self, raw: bytes) -> ForwardedRequest | DoorRefusal:
        """Understands a whole request head that came on a stream of a sender's link; raises HeadError."""
        known = self.by_link.get(raw)
        if known is not None:
            return known
        head = parse_request_head(raw, self._readers)
        entry = self._doors.enter_by_link(head)
        if not isinstance(entry, Entry):
            return entry
        request = ForwardedRequest(head, entry, self._names, self._counts[entry.door])
        self._keep(self.by_link, raw, request)
        return request

    def parse_response(self, raw: bytes, request: ForwardedRequest) -> ResponseHead:
        """Parses a whole response head; raises HeadError."""
        return parse_response_head(raw, request_method=request.method, upgrade=request.upgrade, readers=self._readers)

    def known_response(self, raw: bytes, request: ForwardedRequest, date: bytes) -> ForwardedResponse | None:
        """What was made of a response's head for such a request before, while it is still true."""
        known = request.known_responses
        response = known.get(raw) if known is not None else None
        return response if response is not None and (response.date is None or response.date is date) else None

    def keep_response(self, raw: bytes, request: ForwardedRequest, response: ForwardedResponse) -> None:
        """Remembers what was made of a response's head, where it depends on nothing else."""
        if request.known_responses is not None:
            self._remember(request.known_responses, raw, response)

    def _keep(self, known: Generations[bytes, ForwardedRequest], raw: bytes, request: ForwardedRequest) -> None:
        if request.has_plain_response:
            of_door = (request.door, request.keep_alive)
            responses = self._responses.get(of_door)
            if responses is None:
                responses = self._responses[of_door] = Generations(KNOWN_HEADS)
            request.known_responses = responses
        if request.framing is Framing.NONE:
            request.raw = raw
            self._remember(known, raw, request)

    def _remember(self, known: Generations[bytes, V], raw: bytes, parsed: V) -> None:
        """Keeps what was made of a head's bytes when they come for the second time."""
        if len(raw) > MAX_KNOWN_HEAD_BYTES:
            return
        mark = hash(raw)
        if self._seen.get(mark) is not None:
            known.put(raw, parsed)
        else:
            self._seen.put(mark, True)
