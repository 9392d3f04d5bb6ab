"""The link door: a connection that asked for `/v1/link` becomes a listener's or a sender's link."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from websockets.protocol import Side

from certs.peers import PeerCertificate, peer_certificate
from relay.doors.front_door import FrontDoor
from relay.links.claims import Claims
from relay.links.registry import Registry, Spawn
from relay.senders.links import SenderLink
from relay.trust.credentials import ListenerGrant, Refusal, SenderGrant
from trunkline.channel.alarms import Alarms
from trunkline.channel.errors import HandshakeFailed
from trunkline.channel.flushing import Flusher
from trunkline.channel.heads import RequestHead
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, LinkOwner, Role
from trunkline.channel.outcomes import Outcome
from trunkline.channel.terms import COMPACT, PROTOCOL_VERSION, LinkTerms
from trunkline.channel.upgrade import Carrier, LinkRequest, accept_link, read_link_request
from trunkline.channel.websocket import WebSocketTransport

RESERVED_PART: Final = 16
"""Of a link's streams; 256 of 4,096 are for the control plane, and for what the relay itself tells a node."""


class LinkAdmission(Protocol):
    """Decides on links; see `relay.admission.links`."""

    def admit_link(self, token: str | None, peer: PeerCertificate | None) -> ListenerGrant | SenderGrant | Refusal:
        """Decide on one link, at once."""
        ...

    def no_longer(self, grant: ListenerGrant) -> Refusal | None:
        """Return why what was granted a while ago may not be used any more, or `None`."""
        ...


class Connection(Protocol):
    """The connection that asks."""

    @property
    def linking(self) -> bool:
        """Whether it still waits for the decision."""

    def refuse_link(self, outcome: Outcome, message: str) -> None:
        """Answer it."""

    def release(self) -> bytes:
        """Let go of its transport; what came behind the request is returned."""


class LinkDoor:
    """Decides on requests for links, and makes the links. The role follows from the credential."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        front: FrontDoor,
        admission: LinkAdmission,
        registry: Registry,
        claims: Claims,
        spawn: Spawn,
        budget: CreditBudget,
        flusher: Flusher,
        alarms: Alarms,
        return_within_seconds: Callable[[], int] = lambda: 0,
    ) -> None:
        """Prepare; `return_within_seconds` is what listeners are told about their return, should this relay go."""
        self._loop = loop
        self._front = front
        self._admission = admission
        self._registry = registry
        self._claims = claims
        self._spawn = spawn
        self._budget = budget
        self._flusher = flusher
        self._alarms = alarms
        self._return_within_seconds = return_within_seconds
        features = frozenset({COMPACT})
        self._terms = LinkTerms(PROTOCOL_VERSION, features, front.limits.window_bytes)
        # The same object for nearly all links.
        self._limits = Limits(
            max_streams=front.limits.max_streams_per_link,
            reserved_streams=front.limits.max_streams_per_link // RESERVED_PART,
            initial_window_bytes=front.limits.window_bytes,
            link_budget_bytes=front.limits.link_budget_bytes,
        )

    def begin(self, connection: Connection, head: RequestHead, transport: asyncio.Transport) -> None:
        """Decide; the answer may come later, when an older link of the same node has to be asked first."""
        if not head.names_upgrade:
            connection.refuse_link(Outcome.UPGRADE_REQUIRED, "/v1/link is opened with Upgrade: yamux or websocket")
            return
        try:
            request = read_link_request(head)
        except HandshakeFailed as error:
            connection.refuse_link(Outcome.BAD_REQUEST, str(error))
            return
        grant = self._admission.admit_link(request.token, peer_certificate(transport))
        if isinstance(grant, Refusal):
            connection.refuse_link(grant.outcome, grant.message)
        elif isinstance(grant, SenderGrant):
            self._attach_sender(connection, request, grant, transport)
        elif request.instance is None or request.sequence is None:
            message = "a listener's link needs Trunkline-Instance and Trunkline-Sequence"
            connection.refuse_link(Outcome.BAD_REQUEST, message)
        else:
            self._spawn(self._attach_listener(connection, request, grant, transport))

    def _attach_sender(
        self, connection: Connection, request: LinkRequest, grant: SenderGrant, transport: asyncio.Transport
    ) -> None:
        sender = SenderLink(self._front, self._registry)
        refusal = self._registry.attach_sender(sender, grant)
        if refusal is not None:
            connection.refuse_link(refusal.outcome, refusal.message)
            return
        answer, terms = accept_link(request, self._front.mint_request_id().decode("ascii"), self._terms)
        sender.link = self._make_link(Role.SERVER, sender, terms)
        transport.write(answer)
        self._hand_over(sender.link, request, connection.release(), transport)

    async def _attach_listener(
        self, connection: Connection, request: LinkRequest, grant: ListenerGrant, transport: asyncio.Transport
    ) -> None:
        listener = await self._claims.claim(grant, str(request.instance), request.sequence or 0)
        if not connection.linking:
            return
        if not isinstance(listener, Refusal):
            # The claim may have waited for the old link, and the credential have been revoked in the meantime.
            listener = self._admission.no_longer(grant) or listener
        if isinstance(listener, Refusal):
            connection.refuse_link(listener.outcome, listener.message)
            return
        within_seconds = self._return_within_seconds()
        answer, terms = accept_link(
            request,
            self._front.mint_request_id().decode("ascii"),
            self._terms,
            return_within_seconds=within_seconds,
        )
        link = self._make_link(Role.CLIENT, listener, terms)
        transport.write(answer)
        self._registry.attach(listener, link)
        self._hand_over(link, request, connection.release(), transport)

    def _make_link(self, role: Role, owner: LinkOwner, terms: LinkTerms) -> Link:
        window_bytes = terms.initial_window_bytes
        limits = self._limits
        if window_bytes != limits.initial_window_bytes:
            limits = replace(limits, initial_window_bytes=window_bytes)
        return Link(
            role,
            owner,
            loop=self._loop,
            limits=limits,
            send_window_bytes=window_bytes,
            compact=terms.compact,
            budget=self._budget,
            keepalive_seconds=self._front.limits.keepalive_seconds,
            flusher=self._flusher,
            alarms=self._alarms,
        )

    def _hand_over(self, link: Link, request: LinkRequest, leftover: bytes, transport: asyncio.Transport) -> None:
        if request.carrier is Carrier.WEBSOCKET:
            carrier = WebSocketTransport(transport, Side.SERVER)
            link.adopt(carrier)
            carrier.start(leftover)
        else:
            link.adopt(transport, leftover)
