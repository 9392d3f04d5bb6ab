"""What nodes and relays ask for with the identity they have: confirmation, renewal, a fresh listen token.

The certificate of a request was looked at when the request came, and may have ended while it waited for the database:
it is looked at again in the transaction that would give it a successor.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.allowances import Allowances
from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.identity.issuance import Issuance
from control_plane.identity.pairs import RENEWAL, Pair, PairRequest, issue_pair
from control_plane.storage import certificates, nodes, relays, revocations
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.endings import refuse_ended
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from trunkline.runtime.clock import Clock

BOOTSTRAP = "bootstrap"
"""The origin of certificates that machines got by their evidence."""
MOST_IN_A_LIFETIME = 512
"""So often may a node or relay renew in the lifetime of a certificate, and half of it at once: each one that is good
is a row, and a revocation where its holder comes back or is deleted."""
FULL_RETRY_SECONDS = 60
"""When a node asks again whose former certificates there is no room to revoke for."""
NO_ROOM = (
    "this node has had more certificates than there is room to revoke of one node: it is confirmed once some have "
    "expired; if its node is deleted, the machine may join as a new one"
)


class Renewals:
    """Serves authenticated nodes and relays."""

    def __init__(self, *, database: Database, issuance: Issuance, clock: Clock) -> None:
        self._database = database
        self._issuance = issuance
        self._clock = clock
        self._of_nodes = _allowances(issuance.svid_seconds, clock)
        self._of_relays = _allowances(issuance.relay_svid_seconds, clock)

    async def confirm(self, workspace_id: str, node_id: str, serial: str, actor: Actor) -> bool:
        """Take note that a node holds the key of this certificate.

        What the node had before a new *bootstrap* ends here, and what was renewed from that, whoever did so and
        confirmed it; a renewed leaf lets the old one run out, since calls may still use it. From now on it is sealed to
        the sealing key that came with the certificate. Asked again, nothing changes.

        Returns:
            Whether the trust document changed.

        Raises:
            ApiError: the certificate has ended, or is not on record (the database was restored from before it).
        """
        now = self._clock.now()
        async with self._database.write() as session:
            await _refuse_ended(session, serial, now)
            _, node = await self._found(session, workspace_id, node_id)
            certificate = await certificates.find(session, serial)
            if certificate is None:
                raise _not_on_record()
            return await self._confirm(session, node, certificate, actor, now)

    async def renew_node(
        self, workspace_id: str, node_id: str, serial: str, csr: str, sealing_key: str | None, actor: Actor
    ) -> tuple[Pair, bool]:
        """Issue the next leaf and listen token of a node that has this certificate; the same CSR gets the same.

        Whoever renews has shown the certificate's key: one that came of a bootstrap is confirmed by that, so that
        nobody goes round the end of what the node had before.

        Returns:
            The pair, and whether the trust document changed.

        Raises:
            ApiError: the node was deleted, its certificate has ended, the CSR was sent with another sealing key
                before, or it renews too often.
        """
        self._of_nodes.spend(node_id)
        now = self._clock.now()
        async with self._database.write() as session:
            await _refuse_ended(session, serial, now)
            workspace, node = await self._found(session, workspace_id, node_id)
            shown = await certificates.find(session, serial)
            changed = False
            if shown is not None and shown.origin == BOOTSTRAP:
                changed = await self._confirm(session, node, shown, actor, now)
            request = PairRequest(csr, sealing_key, RENEWAL)
            pair, is_new = await issue_pair(session, self._issuance, workspace, node, request, now)
            if is_new:
                details = {"certificate": pair.serial, "by_certificate": serial}
                happening = Happening("node.renew", resource=node.node, workspace_id=workspace_id, details=details)
                append(session, now, actor, happening)
        return pair, changed

    async def listen_token(self, workspace_id: str, node_id: str, serial: str, actor: Actor) -> str:
        """Issue a fresh listen token for the leaf that the node presented."""
        now = self._clock.now()
        async with self._database.write() as session:
            await _refuse_ended(session, serial, now)
            workspace, node = await self._found(session, workspace_id, node_id)
            certificate = await certificates.find(session, serial)
            if certificate is None or certificate.subject_id != node_id:
                raise _not_on_record()
            token = self._issuance.listen_token(workspace, node, certificate.chain, now)
            happening = Happening("node.listen_token", resource=node.node, workspace_id=workspace_id)
            append(session, now, actor, happening)
        return token

    async def renew_relay(self, relay_id: str, serial: str, csr: str, actor: Actor) -> str:
        """Issue the next leaf of a relay that has this certificate; the same CSR gets the same leaf.

        Raises:
            ApiError: the relay was deleted, its certificate has ended, or it renews too often.
        """
        self._of_relays.spend(relay_id)
        now = self._clock.now()
        async with self._database.write() as session:
            await _refuse_ended(session, serial, now)
            relay = await self._relay(session, relay_id)
            certificate = await self._issuance.relay_certificate(session, relay, csr, origin="renewal", now=now)
            details = {"certificate": certificate.serial, "by_certificate": serial}
            append(session, now, actor, Happening("relay.renew", resource=relay.relay, details=details))
        return certificate.chain

    async def confirm_relay(self, relay_id: str, serial: str, actor: Actor) -> None:
        """Take note that a relay holds the key of this certificate; asked again, nothing changes.

        Raises:
            ApiError: the relay was deleted, or the certificate has ended, or is not on record.
        """
        now = self._clock.now()
        async with self._database.write() as session:
            await _refuse_ended(session, serial, now)
            relay = await self._relay(session, relay_id)
            certificate = await certificates.find(session, serial)
            if certificate is None:
                raise _not_on_record()
            if certificate.confirm_time is None:
                certificate.confirm_time = int(now * 1000)
                details = {"certificate": serial}
                append(session, now, actor, Happening("relay.confirm", resource=relay.relay, details=details))

    async def place_relay(self, relay_id: str, port: int, actor: Actor) -> bool:
        """Record on which port a relay is reached, under the first of its DNS names that is no wildcard.

        Returns:
            Whether the trust document changed.

        Raises:
            ApiError: the relay was deleted, or has wildcards only.
        """
        now = self._clock.now()
        async with self._database.write() as session:
            relay = await self._relay(session, relay_id)
            url = f"https://{_address(relay)}:{port}"
            relay.last_seen_time = int(now * 1000)
            if relay.url == url:
                return False
            relay.url = url
            append(session, now, actor, Happening("relay.place", resource=relay.relay, details={"url": url}))
        return True

    async def _found(self, session: AsyncSession, workspace_id: str, node_id: str) -> tuple[Workspace, Node]:
        workspace = await session.get(Workspace, workspace_id)
        node = await nodes.find(session, workspace_id, node_id)
        if workspace is None or node is None:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "this node was deleted")
        return workspace, node

    async def _relay(self, session: AsyncSession, relay_id: str) -> Relay:
        relay = await relays.find(session, relay_id)
        if relay is None:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "this relay was deleted")
        return relay

    async def _confirm(
        self, session: AsyncSession, node: Node, certificate: Certificate, actor: Actor, now: float
    ) -> bool:
        if certificate.confirm_time is not None:
            return False
        is_bootstrap = certificate.origin == BOOTSTRAP
        is_newest = is_bootstrap or not await certificates.is_outdated(session, certificate)
        if certificate.sealing_key is not None and is_newest:
            node.sealing_key = certificate.sealing_key
        certificate.confirm_time = int(now * 1000)
        if node.confirm_time is None:
            node.confirm_time = int(now * 1000)
        append(session, now, actor, Happening("node.confirm", resource=node.node, workspace_id=node.workspace_id))
        return is_bootstrap and await self._end_earlier(session, certificate, actor, now)

    async def _end_earlier(self, session: AsyncSession, certificate: Certificate, actor: Actor, now: float) -> bool:
        now_ms = int(now * 1000)
        room = await revocations.room_of(session, certificate.subject_id)
        earlier = await certificates.live_before(session, certificate, now_ms, most=room + 1)
        if len(earlier) > room:  # the node asks again until there is room
            raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, NO_ROOM, retry_after_seconds=FULL_RETRY_SECONDS)
        await revocations.revoke_certificates(session, earlier, revoked_by=actor.name, now_ms=now_ms)
        return bool(earlier)


def _allowances(lifetime_seconds: float, clock: Clock) -> Allowances:
    return Allowances(MOST_IN_A_LIFETIME / lifetime_seconds, clock, burst_seconds=lifetime_seconds / 2)


def _address(relay: Relay) -> str:
    name = next((name for name in relay.dns_names if not name.startswith("*.")), None)
    if name is None:
        raise conflict("this relay has no DNS name that nodes could dial: delete it, and enrol it with one")
    return name


async def _refuse_ended(session: AsyncSession, serial: str, now: float) -> None:
    """Refuse a certificate that has ended since the request came: its successor would not be what was ended.

    Raises:
        ApiError: it was revoked, or is locked.
    """
    await refuse_ended(session, [("certificate", serial)], int(now * 1000))


def _not_on_record() -> ApiError:
    return ApiError(ErrorCode.UNAUTHENTICATED, "this certificate is not on record: renew it, then ask again")
