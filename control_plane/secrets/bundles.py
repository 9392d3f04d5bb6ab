"""Bundles: what a node is handed, sealed to its key (HPKE), and what it reports back.

Theory of operation. A node asks, over mTLS, and says which bundle it holds. If its grants still come to the same
secrets in the same versions there is nothing to hand over. Otherwise the values are opened, and sealed as one bundle
under the next sequence number. The number is at least the time in milliseconds, so that it grows even over a restored
backup; the node refuses any that is not above the last it took. Number and identity are HPKE's `info`: a bundle opens
only as the one that it was made as, for the node that it was made for.

The node then reports what it took and which commands used what; a report is numbered by the node's process, and taken
in once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from certs.errors import CertificateError
from certs.sealing import read_sealing_key
from certs.secret_bundles import BundledSecret, seal_bundle
from certs.spiffe import node_id as node_spiffe_id
from control_plane.errors import ApiError, ErrorCode, conflict, invalid
from control_plane.identity.forgotten_certificates import lacks_sealing_key, take_back_sealing_key
from control_plane.metrics import ControlPlaneMetrics
from control_plane.secrets.contents import Contents, wanted_contents
from control_plane.secrets.vault import SecretVault
from control_plane.storage import certificates, nodes, secret_bundles, secrets
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.endings import of_node, refuse_ended
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.secrets import SecretBundle
from trunkline.runtime.clock import Clock

MOST_REFERENCES_AUDITED = 100
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Handed:
    """The answer to a node: the number of its bundle, and the bundle itself if the node has not got it."""

    sequence: int
    sealed: str | None = None


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node says: the bundle it took, what it holds, and which commands used what.

    `report_id` names the report; uses are as the audit records them.
    """

    report_id: str
    sequence: int
    held: Mapping[str, int]
    accepts: bool
    uses: Sequence[Mapping[str, Any]]
    uses_dropped: int


class Bundles:
    """Hands secrets to nodes."""

    def __init__(
        self, *, database: Database, vault: SecretVault, trust_domain: str, metrics: ControlPlaneMetrics, clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._trust_domain = trust_domain
        self._metrics = metrics
        self._clock = clock

    async def hand(
        self, node_id: str, workspace_id: str, serial: str, *, sealing_key: str, held: int | None, actor: Actor
    ) -> Handed:
        """Return the node's bundle, sealed, unless it holds it already.

        Args:
            node_id: the node, which has proved to be it.
            workspace_id: its workspace.
            serial: of the certificate that it has proved it with.
            sealing_key: the key that it says the bundle is to be sealed to; it must be the one on record.
            held: the number of the bundle that it holds.
            actor: the node as the audit names it.

        Raises:
            ApiError: its bootstrap is not confirmed, the key is not the one on record, a secret does not open, or the
                node has ended, or was locked, since it was let in.
        """
        await self._take_back_key(node_id, workspace_id, serial, sealing_key)
        for _ in range(ATTEMPTS):
            async with self._database.read() as session:
                await self._checked(session, node_id, workspace_id, serial, sealing_key)
                wanted = (await wanted_contents(session, {node_id: workspace_id}))[node_id]
                known = await secret_bundles.find(session, node_id)
                if _has_it(known, wanted, held):
                    return Handed(known.sequence if known is not None else 0)
                entries = await self._entries(session, workspace_id, wanted)
            sequence = await self._allot(node_id, workspace_id, serial, wanted, actor)
            if sequence is not None:
                self._metrics.secret_bundles.inc()
                return Handed(sequence, await self._sealed(entries, sealing_key, workspace_id, node_id, sequence))
        raise ApiError(ErrorCode.TEMPORARILY_UNAVAILABLE, "the secrets keep changing: ask again", retry_after_seconds=1)

    async def take_report(self, node_id: str, workspace_id: str, report: NodeReport, actor: Actor) -> None:
        """Record what a node says; the same report again changes nothing."""
        now = self._clock.now()
        async with self._database.write() as session:
            node = await _existing(session, workspace_id, node_id)
            bundle = await secret_bundles.find_or_add(session, node_id)
            bundle.accepts = report.accepts
            bundle.held = dict(report.held)
            if report.sequence == bundle.sequence and bundle.adopted_fingerprint != bundle.fingerprint:
                bundle.adopted_fingerprint, bundle.adopt_time = bundle.fingerprint, int(now * 1000)
                details = {"sequence": report.sequence, "held": len(report.held)}
                append(session, now, actor, Happening("secret.adopt", "ok", node.node, workspace_id, details))
            if bundle.last_report == report.report_id:
                return
            bundle.last_report = report.report_id
            for happening in _uses(report, node, workspace_id):
                append(session, now, actor, happening)
        self._metrics.secret_uses.inc(len(report.uses))

    async def _take_back_key(self, node_id: str, workspace_id: str, serial: str, sealing_key: str) -> None:
        """Take the key of a node whose renewal was lost with a restored database; it is checked again afterwards."""
        async with self._database.read() as session:
            if not lacks_sealing_key(await certificates.find(session, serial)):
                return
        now_ms = int(self._clock.now() * 1000)
        async with self._database.write() as session:
            await refuse_ended(session, of_node(workspace_id, node_id, serial), now_ms)
            node, certificate = (
                await nodes.find(session, workspace_id, node_id),
                await certificates.find(session, serial),
            )
            if node is not None and certificate is not None:
                await take_back_sealing_key(session, node, certificate, sealing_key)

    async def _checked(
        self, session: AsyncSession, node_id: str, workspace_id: str, serial: str, sealing_key: str
    ) -> None:
        node = await _existing(session, workspace_id, node_id)
        certificate = await certificates.find(session, serial)
        unproved = certificate is None or (certificate.origin == "bootstrap" and certificate.confirm_time is None)
        if node.confirm_time is None or unproved:
            raise ApiError(ErrorCode.PERMISSION_DENIED, "confirm the bootstrap first: secrets come after it")
        if node.sealing_key != sealing_key:
            raise conflict("the sealing key is not the one on record: confirm the identity that it came with first")

    async def _entries(self, session: AsyncSession, workspace_id: str, wanted: Contents) -> list[BundledSecret]:
        """Return the secrets that make up these contents, opened."""
        rows = await secrets.of_scopes(session, workspace_id, {scope for scope, _, _ in wanted.entries})
        values = await self._vault.open(session, workspace_id, rows)
        return [BundledSecret(row.scope, row.key, row.version, value) for row, value in zip(rows, values, strict=True)]

    async def _allot(self, node_id: str, workspace_id: str, serial: str, wanted: Contents, actor: Actor) -> int | None:
        """Give these contents the node's next number, durably; None if they are no longer what it is to hold."""
        now = self._clock.now()
        async with self._database.write() as session:
            await refuse_ended(session, of_node(workspace_id, node_id, serial), int(now * 1000))
            node = await _existing(session, workspace_id, node_id)
            if (await wanted_contents(session, {node_id: workspace_id}))[node_id] != wanted:
                return None
            bundle = await secret_bundles.find_or_add(session, node_id)
            bundle.sequence = max(bundle.sequence + 1, int(now * 1000))
            bundle.fingerprint, bundle.contents = wanted.fingerprint(), wanted.versions()
            bundle.hand_time = int(now * 1000)
            # Whoever asks for a bundle that it was handed before has lost it.
            bundle.adopted_fingerprint = None
            details = _handed_details(bundle.sequence, wanted)
            append(session, now, actor, Happening("secret.deliver", "ok", node.node, workspace_id, details))
            return bundle.sequence

    async def _sealed(
        self, entries: Sequence[BundledSecret], sealing_key: str, workspace_id: str, node_id: str, sequence: int
    ) -> str:
        node = node_spiffe_id(self._trust_domain, workspace_id, node_id)
        try:
            return await asyncio.to_thread(seal_bundle, entries, read_sealing_key(sealing_key), node, sequence)
        except CertificateError as error:
            raise invalid("sealing_key", str(error)) from None


def _has_it(known: SecretBundle | None, wanted: Contents, held: int | None) -> bool:
    """Whether the node needs nothing: it holds this very bundle; or it holds none, had none, and is to have none."""
    if held is None:
        return not wanted.entries and (known is None or not known.contents)
    return known is not None and held == known.sequence and known.fingerprint == wanted.fingerprint()


async def _existing(session: AsyncSession, workspace_id: str, node_id: str) -> Node:
    node = await nodes.find(session, workspace_id, node_id)
    if node is None:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "this node was deleted")
    return node


def _handed_details(sequence: int, wanted: Contents) -> dict[str, Any]:
    named = [f"{scope}/{key}@{version}" for scope, key, version in wanted.entries]
    shown = named[:MOST_REFERENCES_AUDITED]
    more = {"more": len(named) - len(shown)} if len(named) > len(shown) else {}
    return {"sequence": sequence, "fingerprint": wanted.fingerprint(), "secrets": shown, **more}


def _uses(report: NodeReport, node: Node, workspace_id: str) -> list[Happening]:
    happenings = [
        Happening("secret.use", "ok", str(use["secret"]), workspace_id, {"node": node.node, **_without_name(use)})
        for use in report.uses
    ]
    if report.uses_dropped:
        details = {"node": node.node, "count": report.uses_dropped}
        happenings.append(Happening("secret.use", "dropped", None, workspace_id, details))
    return happenings


def _without_name(use: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in use.items() if name != "secret"}
