"""Issuing: SVIDs and the tokens that go with them, recorded in the transaction that decided it."""

import hashlib
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain, root_of
from certs.errors import CertificateError
from certs.identities import public_key_of_csr
from certs.jose import parse_compact
from certs.lifespan import Lifespan, lifespan_of, renewal_window
from certs.spiffe import SpiffeId, node_id, relay_id, workspace_id
from certs.tokens import Binding, IssuedToken
from control_plane.errors import invalid
from control_plane.identity.renewal_timetable import RenewalTimetable
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import TokenSettings
from control_plane.signing.in_force import SignersInForce
from control_plane.signing.token_ends import TokenEnds
from control_plane.storage import certificates, signers
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay


def csr_hash(csr: str) -> str:
    """Return the hexadecimal SHA-256 of a signing request's text.

    Raises:
        ApiError: it is not a signing request for a P-256 key, signed by that key.
    """
    try:
        public_key_of_csr(csr)
    except CertificateError as error:
        raise invalid("csr", str(error)) from None
    return hashlib.sha256(csr.encode()).hexdigest()


class Issuance:
    """Issues what nodes, relays and operators are given, with the lifetimes of the settings."""

    def __init__(
        self,
        *,
        signers: SignersInForce,
        trust_domain: str,
        tokens: TokenSettings,
        token_ends: TokenEnds,
        timetable: RenewalTimetable,
        metrics: ControlPlaneMetrics,
    ) -> None:
        self._signers = signers
        self._tokens = tokens
        self._token_ends = token_ends
        self._timetable = timetable
        self._metrics = metrics
        self.trust_domain = trust_domain

    async def node_certificate(
        self,
        session: AsyncSession,
        node: Node,
        csr: str,
        *,
        origin: str,
        sealing_key: str | None = None,
        now: float,
    ) -> Certificate:
        """Issue a node's SVID; the same CSR asked for again gets the same certificate, until another CA issues.

        One of the future is not given again: it was issued while this machine's clock was ahead, and nobody takes it.
        `sealing_key` becomes the node's when it confirms this certificate.
        """
        known = await certificates.find_for_csr(session, node.node_id, csr_hash(csr), int(now * 1000))
        if known is not None and self._is_good(known, now):
            return known
        identity = node_id(self.trust_domain, node.workspace_id, node.node_id)
        lifetime_seconds = self._tokens.svid_seconds
        chain = await self._signers.issue(
            lambda authority: authority.issue_node(csr, identity, lifetime_seconds, now=now)
        )
        certificate = await self._record(session, chain, "node", node.node_id, csr, origin, now)
        certificate.sealing_key = sealing_key
        return certificate

    async def relay_certificate(
        self, session: AsyncSession, relay: Relay, csr: str, *, origin: str, now: float
    ) -> Certificate:
        """Issue a relay's SVID, with the DNS names of its record; the same CSR gets the same certificate."""
        known = await certificates.find_for_csr(session, relay.relay_id, csr_hash(csr), int(now * 1000))
        if known is not None and self._is_good(known, now):
            return known
        identity = relay_id(self.trust_domain, relay.relay_id)
        lifetime_seconds = self._tokens.relay_svid_seconds
        dns_names = relay.dns_names
        chain = await self._signers.issue(
            lambda authority: authority.issue_relay(csr, identity, dns_names, lifetime_seconds, now=now)
        )
        return await self._record(session, chain, "relay", relay.relay_id, csr, origin, now)

    def listen_token(self, workspace: Workspace, node: Node, certificate_chain: str, now: float) -> str:
        """Issue a node's listen token, bound to the leaf of the chain."""
        issued = self._signers.tokens.issue_listen(
            self.node_identity(node),
            workspace=workspace.workspace,
            node_name=node.node,
            certificate_thumbprint=CertificateChain.from_pem(certificate_chain).thumbprint,
            now=now,
            lifetime_seconds=self._tokens.listen_seconds,
        )
        return issued.text

    def renew_time(self, certificate_chain: str, now: float, *, first: bool) -> int | None:
        """Promise when to renew (milliseconds) the leaf of the chain and a listen token that is issued now."""
        leaf = lifespan_of(CertificateChain.from_pem(certificate_chain))
        token = Lifespan(int(now), int(now) + self._tokens.listen_seconds)
        moment = self._timetable.promise(renewal_window(leaf, token, first=first), now)
        return None if moment is None else int(moment * 1000)

    def call_token(
        self,
        workspace: Workspace,
        node: Node,
        *,
        subject: str,
        scopes: Sequence[str],
        lifetime_seconds: float,
        now: float,
        binding: Binding | None = None,
    ) -> IssuedToken:
        """Issue a call token for one node; with a `binding` for that request only."""
        return self._signers.tokens.issue_call(
            self.node_identity(node),
            subject=subject,
            workspace=workspace.workspace,
            node_name=node.node,
            scopes=scopes,
            now=now,
            lifetime_seconds=lifetime_seconds,
            binding=binding,
        )

    def workspace_token(
        self, workspace: Workspace, *, subject: str, ports: Sequence[int], lifetime_seconds: float, now: float
    ) -> IssuedToken:
        """Issue a workspace token."""
        return self._signers.tokens.issue_workspace(
            workspace_id(self.trust_domain, workspace.workspace_id),
            subject=subject,
            workspace=workspace.workspace,
            ports=ports,
            now=now,
            lifetime_seconds=lifetime_seconds,
        )

    async def note(self, session: AsyncSession, issued: IssuedToken) -> None:
        """Take note, in the transaction that audits it, until when this token is out: its key is needed so long."""
        claims = issued.claims
        if claims.key_id is not None:
            await signers.note_token(session, claims.key_id, claims.expires_at * 1000)
            self._token_ends.note(claims.key_id, claims.expires_at - claims.issued_at)

    @property
    def svid_seconds(self) -> int:
        """How long certificates of nodes are good."""
        return self._tokens.svid_seconds

    @property
    def relay_svid_seconds(self) -> int:
        """How long certificates of relays are good."""
        return self._tokens.relay_svid_seconds

    @property
    def signing_key_id(self) -> str:
        """The key that signs tokens now."""
        return self._signers.tokens.key_id

    def has_signed(self, listen_token: str) -> bool:
        """Whether a token that was issued here is of the key that signs now."""
        return parse_compact(listen_token).key_id == self.signing_key_id

    def _is_good(self, certificate: Certificate, now: float) -> bool:
        """Whether a certificate has begun, and is of the authority that issues now."""
        chain = CertificateChain.from_pem(certificate.chain)
        return lifespan_of(chain).has_begun(now) and root_of(chain, self._signers.authority.roots) is not None

    def node_identity(self, node: Node) -> SpiffeId:
        """Return a node's SPIFFE id."""
        return node_id(self.trust_domain, node.workspace_id, node.node_id)

    async def _record(
        self,
        session: AsyncSession,
        chain: CertificateChain,
        kind: str,
        subject_id: str,
        csr: str,
        origin: str,
        now: float,
    ) -> Certificate:
        certificate = Certificate(
            serial=chain.serial,
            subject_kind=kind,
            subject_id=subject_id,
            origin=origin,
            csr_sha256=csr_hash(csr),
            chain=chain.pem,
            issue_time=await certificates.next_issue_time(session, subject_id, int(now * 1000)),
            expire_time=int(chain.not_after * 1000),
            confirm_time=None,
        )
        session.add(certificate)
        self._metrics.issued.labels(kind).inc()
        return certificate
