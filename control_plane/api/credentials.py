"""Checking credentials: an operator's bearer token, or a client certificate whose SPIFFE id fits the route.

A client certificate got here only if its chain verified in the TLS handshake. What is checked for each request is what
a handshake cannot know: the role, the trust domain, revocation, and that the node or relay still exists.
"""

import hmac

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.peers import PeerCertificate, peer_certificate
from certs.spiffe import IdentityRole, SpiffeId
from control_plane.api.callers import Caller, Role, Route
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity.forgotten_certificates import ForgottenCertificates
from control_plane.signing.in_force import SignersInForce
from control_plane.storage import certificates, locks, nodes, relays, revocations
from control_plane.storage.accounts import token_hash
from control_plane.storage.audit import Actor
from control_plane.storage.database import Database
from trunkline.runtime.clock import Clock

LONGEST_BEARER = 4096


class Credentials:
    """Turns a request into a caller, or refuses it."""

    def __init__(
        self,
        *,
        database: Database,
        trust_domain: str,
        signers: SignersInForce,
        operators: dict[str, str],
        forgotten: ForgottenCertificates,
        clock: Clock,
    ) -> None:
        self._database = database
        self._clock = clock
        self._trust_domain = trust_domain
        self._signers = signers
        self._operators = operators
        self._forgotten = forgotten

    async def authorise(self, request: web.Request, route: Route, request_id: str) -> Caller:
        """Return the caller if it may use the route.

        Raises:
            ApiError: UNAUTHENTICATED without a valid credential, PERMISSION_DENIED with one of another role, or with
                one that is locked.
        """
        role = route.role
        if role is Role.PUBLIC:
            return Caller(_actor("anonymous", request, request_id))
        if role is Role.OPERATOR:
            return self._operator(request, request_id)
        return await self._machine(request, route, request_id)

    def _operator(self, request: web.Request, request_id: str) -> Caller:
        fields = request.headers.getall("Authorization", [""])
        if len(fields) > 1:  # others on the way may have looked at another one of them
            raise ApiError(ErrorCode.UNAUTHENTICATED, "send one Authorization field")
        scheme, _, token = fields[0].partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "send the operator token: Authorization: Bearer …")
        presented = token_hash(token.strip()) if len(token) <= LONGEST_BEARER else ""
        for known, operator_id in self._operators.items():
            if hmac.compare_digest(known, presented):
                return Caller(_actor(f"operator/{operator_id}", request, request_id), operator_id)
        raise ApiError(ErrorCode.UNAUTHENTICATED, "this is not a valid operator token")

    async def _machine(self, request: web.Request, route: Route, request_id: str) -> Caller:
        role = route.role
        identity, peer = self._peer(request)
        serial = peer.serial
        wanted = IdentityRole.NODE if role is Role.NODE else IdentityRole.RELAY
        if identity.role is not wanted:
            raise ApiError(ErrorCode.PERMISSION_DENIED, f"this needs the identity of a {role.value}")
        async with self._database.read() as session:
            await self._refuse_unvouched(session, peer)
            await self._refuse_revoked(session, identity, serial)
            await self._refuse_locked(session, identity, serial, while_locked=route.while_locked)
            subject_id = await _existing(session, identity)
            is_on_record = await certificates.find(session, serial) is not None
        actor = _actor(str(identity), request, request_id)
        if not is_on_record:
            await self._forgotten.take_back(peer, identity, subject_id, actor)
        return Caller(actor, subject_id, identity.workspace_id or "", serial)

    def _peer(self, request: web.Request) -> tuple[SpiffeId, PeerCertificate]:
        peer = peer_certificate(request.transport)
        if peer is None:
            raise ApiError(
                ErrorCode.UNAUTHENTICATED, "this needs a client certificate: the SVID that was issued to you"
            )
        if peer.spiffe_id is None or peer.spiffe_id.trust_domain != self._trust_domain:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "the certificate states no identity of this trust domain")
        return peer.spiffe_id, peer

    async def _refuse_unvouched(self, session: AsyncSession, peer: PeerCertificate) -> None:
        """A certificate under a root that was left counts only if it is, bit for bit, one that was issued from here.

        So whoever slept through a rotation can renew, and whoever has stolen the old authority's key cannot.
        """
        if self._signers.vouch_for(peer.certificate):
            return
        known = await certificates.find(session, peer.serial)
        if known is None or CertificateChain.from_pem(known.chain).thumbprint != peer.thumbprint:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "the certificate is of an authority that is trusted no more")

    async def _refuse_revoked(self, session: AsyncSession, identity: SpiffeId, serial: str) -> None:
        for kind, name in _named(identity, serial):
            if await revocations.is_revoked(session, kind, name):
                raise ApiError(ErrorCode.UNAUTHENTICATED, f"this {kind} was revoked")

    async def _refuse_locked(
        self, session: AsyncSession, identity: SpiffeId, serial: str, *, while_locked: bool
    ) -> None:
        """Refuse what is locked; a locked certificate on every route, since it could be renewed into another."""
        now_ms = int(self._clock.now() * 1000)
        for kind, name in _named(identity, serial):
            if (kind == "certificate" or not while_locked) and await locks.is_locked(session, kind, name, now_ms):
                raise ApiError(ErrorCode.PERMISSION_DENIED, f"this {kind} is locked")


def _named(identity: SpiffeId, serial: str) -> list[tuple[str, str]]:
    """What a certificate stands on, as revocations and locks name it."""
    named = [
        ("certificate", serial),
        ("node", identity.node_id),
        ("relay", identity.relay_id),
        ("workspace", identity.workspace_id),
    ]
    return [(kind, name) for kind, name in named if name is not None]


async def _existing(session: AsyncSession, identity: SpiffeId) -> str:
    if identity.node_id is not None and identity.workspace_id is not None:
        node = await nodes.find(session, identity.workspace_id, identity.node_id)
        if node is not None:
            return node.node_id
    if identity.relay_id is not None:
        relay = await relays.find(session, identity.relay_id)
        if relay is not None:
            return relay.relay_id
    raise ApiError(ErrorCode.UNAUTHENTICATED, "what this identity was issued for no longer exists")


def _actor(name: str, request: web.Request, request_id: str) -> Actor:
    return Actor(name, request_id, request.remote)
