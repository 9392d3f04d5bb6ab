"""A listener: one node's link at this relay, what it is called, and what it says to the relay itself."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from relay.links.control_exchanges import ControlExchange
from relay.links.notices import NoticeExchange, write_notice
from relay.links.reached import Caller, Reached
from relay.links.supersede import Incumbent
from relay.settings import LimitsSettings
from relay.trust.credentials import Credential, ListenerGrant, Refusal
from relay.trust.use_kinds import UseKind
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link, LinkStream
from trunkline.channel.outcomes import Outcome

MAX_CONTROL_EXCHANGES: Final = 8
"""Of one listener at once; each may hold a head and a token."""


class ListenerOwner(Protocol):
    """Whom a listener tells what became of it: the registry."""

    def renew(self, listener: "Listener", token: str) -> Refusal | None:
        """Take a new listen token for the listener's link, or say why not."""
        ...

    def said_goodbye(self, listener: "Listener") -> None:
        """The node wants no new calls on this link."""
        ...

    def detach(self, listener: "Listener", error: ChannelError | None) -> None:
        """The link is gone, for that reason; None if it was closed here."""
        ...

    def notice_ended(self, kind: str, result: str) -> None:
        """A notice has been answered, or never will be."""
        ...


class Listener(Reached):
    """A node's link. It owns the link: streams that the node opens are control exchanges with the relay.

    Attributes:
        goodbye: whether the node has announced the end of the link.
        credential: the listen token in force, replaced at each renewal.
    """

    __slots__ = (
        "_exchanges",
        "_limits",
        "_owner",
        "credential",
        "goodbye",
        "instance",
        "link",
        "sequence",
        "thumbprint",
    )

    link: Link
    kind: Final = UseKind.LISTENER
    towards: Final = None

    def __init__(
        self, grant: ListenerGrant, instance: str, sequence: int, *, owner: ListenerOwner, limits: LimitsSettings
    ) -> None:
        Reached.__init__(
            self,
            node_id=grant.node_id,
            workspace_id=grant.workspace_id,
            node=grant.node,
            workspace=grant.workspace,
            spiffe_id=grant.spiffe_id,
        )
        self.thumbprint = grant.thumbprint
        self.credential: Credential = grant.credential
        self.instance = instance
        self.sequence = sequence
        self.goodbye = False
        self._owner = owner
        self._limits = limits
        self._exchanges = 0

    @property
    def token_expires_at(self) -> float:
        """When the listen token ends, leeway included, in seconds since the epoch."""
        return self.credential.ends_at

    def incumbent(self) -> Incumbent:
        """Return what the rules of supersession ask about this link."""
        return Incumbent(self.instance, self.sequence, gone=self.goodbye or self.link.lost)

    def take(self, link: Link) -> None:
        """Take the link that calls go over."""
        self.link = link

    def open(self, caller: Caller, sender: int) -> LinkStream:
        """Open a stream of the link for a call."""
        return self.link.open(caller, sender)

    def call_when_openable(self, callback: Callable[[], None]) -> None:
        """Call back once when the link may have room for another stream."""
        self.link.call_when_openable(callback)

    def call_no_more(self, callback: Callable[[], None]) -> None:
        """Do not call back any more."""
        self.link.call_no_more(callback)

    # What the link calls.

    def stream_offered(self, stream: LinkStream) -> ControlExchange | None:
        """Serve what the listener asks of its relay, a few things at a time."""
        if self._exchanges >= MAX_CONTROL_EXCHANGES:
            return None
        self._exchanges += 1
        return ControlExchange(stream, self._renew, self._exchange_ended, timeout_seconds=self._limits.notice_seconds)

    def _exchange_ended(self) -> None:
        self._exchanges -= 1

    def go_away_received(self, link: Link, code: int) -> None:
        """The node drains this link."""
        self.goodbye = True
        self._owner.said_goodbye(self)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The link has ended, in whichever way."""
        self._owner.detach(self, error)

    # What the registry calls.

    def cut(self, outcome: Outcome) -> None:
        """End the link at once."""
        self.current = False
        self.link.abort()

    def notify(self, kind: str, **members: Any) -> None:
        """Give the node a notice, if its link takes one; the owner hears what came of it."""
        self._send(write_notice(kind, **members), lambda result: self._owner.notice_ended(kind, result))

    def push_trust(self, notice: bytes, finished: Callable[[str], None]) -> None:
        """Give the node a trust document, in the notice that is the same for all nodes; `finished` hears how it ended.

        To be called again only once that one has ended.
        """
        self._send(notice, finished)

    def _send(self, request: bytes, finished: Callable[[str], None]) -> None:
        try:
            NoticeExchange(request, finished).start(self.link, self._limits.notice_seconds)
        except ChannelError:
            finished("lost")

    def _renew(self, token: str) -> Refusal | None:
        return self._owner.renew(self, token)
