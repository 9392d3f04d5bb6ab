"""Admission of streams: may the holder of this token reach this port of this node, now.

`admit` is on the path of every call. What it decided is kept by token and destination, and is good while the
listener is current, no new trust document has come, and nothing has expired: then a call costs two look-ups and three
comparisons, or by `admit_again` the comparisons alone. Everything else is decided anew, from the token's text on.
"""

from typing import Final, Protocol

from certs.errors import CertificateError
from certs.expiring import ExpiringEntries
from certs.peers import PeerCertificate
from certs.spiffe import SpiffeId
from certs.tokens import IssuedToken, TokenClaims, TokenKind
from relay.admission.grants import CONTROL_PLANE, Grant, GrantedToken, sender_number
from relay.admission.links import LinkAdmission
from relay.admission.quotas import Quotas, Use
from relay.links.reached import Reached
from relay.metrics import RelayMetrics
from relay.trust.credentials import (
    AGENT_PORT,
    RESERVED_PORT,
    Credential,
    Destination,
    ListenerGrant,
    Refusal,
    SenderGrant,
)
from relay.trust.in_force import STALE, TrustInForce
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import Clock

__all__ = ["Admission", "Destination", "Grant", "ListenerGrant", "Refusal", "SenderGrant"]

SENDER_KINDS: Final = frozenset({TokenKind.CALL, TokenKind.WORKSPACE})
ASSERTION_SECONDS: Final = 30.0
"""How long one assertion is sent again; it is valid for twice that."""
MAX_GRANTS_PER_TOKEN: Final = 1024


class ListenerIndex(Protocol):
    """Knows which listener bears a name; the registry."""

    def find(self, workspace: str, node: str) -> Reached | None:
        """Return the listener that new calls for this name go to."""
        ...


class Assertions(Protocol):
    """Signs what stands in for a workspace token towards a node."""

    def issue(self, origin: TokenClaims, node: SpiffeId, port: int, *, now: float) -> IssuedToken:
        """Sign one assertion, valid for a minute."""
        ...


class AdmissionReports(Protocol):
    """Where decisions are counted for the audit."""

    def granted(self, grant: Grant) -> None:
        """A grant is used for the first time since the last report."""
        ...

    def refused(self, outcome: Outcome, destination: Destination | None, credential: Credential | None) -> None:
        """A call was refused, or a link, which has no destination."""
        ...


class Admission:
    """Decides on streams and links."""

    def __init__(
        self,
        *,
        registry: ListenerIndex,
        links: LinkAdmission,
        trust: TrustInForce,
        quotas: Quotas,
        assertions: Assertions,
        reports: AdmissionReports,
        metrics: RelayMetrics,
        clock: Clock,
        cache_entries: int,
    ) -> None:
        self._registry = registry
        self._links = links
        self._trust = trust
        self._quotas = quotas
        self._assertions = assertions
        self._reports = reports
        self._metrics = metrics
        self._now = clock.now
        self._monotonic = clock.monotonic
        self._kept: ExpiringEntries[GrantedToken] = ExpiringEntries(
            cache_entries, lambda granted: granted.credential.ends_at
        )
        self._tokens = self._kept.entries

    def admit(self, token: str | None, destination: Destination) -> Grant | Refusal:
        """Decide on one call. Never raises, never waits; see the module's first lines for its cost.

        Args:
            token: what the sender presented, or `None`.
            destination: where it wants to go.
        """
        granted = self._tokens.get(token) if token is not None else None
        if granted is not None:
            grant = granted.grants.get(destination)
            if grant is not None:
                decision = self.admit_again(grant)
                if decision is not None:
                    return decision
        return self._admit_anew(token, destination)

    def admit_again(self, grant: Grant) -> Grant | Refusal | None:
        """Decide on one more call of the same token to the same destination; None if it is for `admit` to decide."""
        if not grant.listener.current or grant.standing is not self._trust.standing or self._now() >= grant.good_until:
            return None
        return self._admitted(grant) if grant.use is None else self._within_quota(grant, grant.use)

    def is_control_planes(self, token: str | None) -> bool:
        """Tell by its token, which is verified, whether a call is the control plane's own."""
        granted = self._granted_token(token, self._now())
        if isinstance(granted, Refusal) or granted.credential.claims is None:
            return False
        return sender_number(granted.credential.claims) == CONTROL_PLANE

    def admit_link(self, token: str | None, peer: PeerCertificate | None) -> ListenerGrant | SenderGrant | Refusal:
        """Decide on a link; see `LinkAdmission.admit_link`."""
        decision = self._links.admit_link(token, peer)
        if isinstance(decision, Refusal):
            self._link_refused(decision)
        return decision

    def no_longer(self, grant: ListenerGrant) -> Refusal | None:
        """Look again at a link that was admitted; see `LinkAdmission.no_longer`."""
        refusal = self._links.no_longer(grant)
        if refusal is not None:
            self._link_refused(refusal)
        return refusal

    def _link_refused(self, refusal: Refusal) -> None:
        self._metrics.link_refusals.of(refusal.outcome.metric_label).count += 1
        self._reports.refused(refusal.outcome, None, None)

    def _admit_anew(self, token: str | None, destination: Destination) -> Grant | Refusal:
        now = self._now()
        if self._trust.stale:
            return self._refuse(STALE, destination, None)
        self._trust.look(now)
        granted = self._granted_token(token, now)
        if isinstance(granted, Refusal):
            return self._refuse(granted, destination, None)
        decision = self._decide(granted.credential, destination, now)
        if isinstance(decision, Refusal):
            return self._refuse(decision, destination, granted.credential)
        if len(granted.grants) >= MAX_GRANTS_PER_TOKEN:
            granted.grants.clear()
        granted.grants[destination] = decision
        return self._admitted(decision) if decision.use is None else self._within_quota(decision, decision.use)

    def _within_quota(self, grant: Grant, use: Use) -> Grant | Refusal:
        """Refuse a sender's call beyond a quota; the control plane's count, and are never refused.

        Whoever has one token of a workspace with a quota could keep it from all nodes there: they would be offline to
        it, which lets another machine in as them, and no command could be cancelled.
        """
        excess = use.excess(self._monotonic())
        if excess is not None and grant.sender != CONTROL_PLANE:
            return self._refuse(Refusal(Outcome.OVER_QUOTA, excess), grant.destination, grant.credential)
        return self._admitted(grant)

    def _admitted(self, grant: Grant) -> Grant:
        if not grant.admitted:
            self._reports.granted(grant)
        grant.admitted += 1
        return grant

    def _granted_token(self, token: str | None, now: float) -> GrantedToken | Refusal:
        if token is None:
            return Refusal(Outcome.NO_TOKEN, "no token; send a call token or a workspace token as Bearer")
        claims = self._trust.verify(token, SENDER_KINDS, now)
        if isinstance(claims, Refusal):
            self._tokens.pop(token, None)
            return claims
        granted = self._tokens.get(token)
        if granted is None or granted.credential.claims is not claims:
            granted = GrantedToken(claims, ends_at=self._trust.ends_at(claims))
            self._kept.put(token, granted, now)
        return self._trust.standing.refusal(granted.credential) or granted

    def _decide(self, credential: Credential, destination: Destination, now: float) -> Grant | Refusal:
        listener = self._registry.find(destination.workspace, destination.node)
        claims = credential.claims
        if claims is None or not _is_audience(claims, listener, destination):
            return Refusal(Outcome.WRONG_AUDIENCE, "no such node, or the token is not for it")
        refusal = _refuse_port(claims, destination.port)
        if refusal is not None:
            return refusal
        if listener is None:
            return Refusal(Outcome.NO_LISTENER, "the node has no link to this relay")
        refusal = self._trust.standing.refusal_of(node_id=listener.node_id, workspace_id=listener.workspace_id)
        if refusal is not None:
            return refusal
        return self._grant(credential, claims, listener, destination, now)

    def _grant(
        self, credential: Credential, claims: TokenClaims, listener: Reached, destination: Destination, now: float
    ) -> Grant | Refusal:
        standing = self._trust.standing
        good_until, assertion = min(credential.ends_at, standing.valid_until), None
        if claims.kind is TokenKind.WORKSPACE:
            try:
                node = SpiffeId.parse(listener.spiffe_id)
                assertion = self._assertions.issue(claims, node, destination.port, now=now).text
            except CertificateError as error:
                return Refusal(Outcome.INTERNAL_ERROR, f"the relay cannot vouch for the token: {error}")
            good_until = min(good_until, now + ASSERTION_SECONDS)
        use = self._quotas.use(listener.workspace_id, claims.subject, self._monotonic())
        return Grant(
            listener,
            credential,
            destination,
            assertion=assertion,
            good_until=good_until,
            standing=standing,
            use=use,
            sender=sender_number(claims),
        )

    def _refuse(self, refusal: Refusal, destination: Destination, credential: Credential | None) -> Refusal:
        self._metrics.refused(refusal.outcome)
        self._reports.refused(refusal.outcome, destination, credential)
        return refusal


def _is_audience(claims: TokenClaims, listener: Reached | None, destination: Destination) -> bool:
    """Tell whether a token is for the node that now bears the name, or, without a link, for that name."""
    if claims.kind is TokenKind.WORKSPACE:
        if listener is not None:
            return claims.workspace_id == listener.workspace_id
        return claims.workspace == destination.workspace
    if listener is not None:
        return claims.audience == listener.spiffe_id
    return (claims.workspace, claims.node) == (destination.workspace, destination.node)


def _refuse_port(claims: TokenClaims, port: int) -> Refusal | None:
    if port == RESERVED_PORT:
        return Refusal(Outcome.NOT_IMPLEMENTED, "port 443 is reserved for TLS end to end, which is not offered yet")
    if port == AGENT_PORT and claims.kind is TokenKind.CALL:
        allowed = bool(claims.scopes.names)
    else:
        allowed = port != AGENT_PORT and claims.scopes.allows_port(port)
    return None if allowed else Refusal(Outcome.MISSING_SCOPE, f"the token has no scope for port {port}")
