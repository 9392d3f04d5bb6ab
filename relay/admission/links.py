"""Admission of links: who may attach as a listener, who as a sender, and whose listen token is renewed."""

from certs.peers import PeerCertificate
from certs.spiffe import IdentityRole, node_id
from certs.tokens import TokenClaims, TokenKind
from relay.links.listeners import Listener
from relay.trust.credentials import Credential, ListenerGrant, Refusal, SenderGrant
from relay.trust.in_force import STALE, TrustInForce
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import Clock

LINK_KINDS = frozenset({TokenKind.LISTEN, TokenKind.CALL, TokenKind.WORKSPACE})


class LinkAdmission:
    """Decides on links by what their opener proved: a token, a client certificate, or both."""

    def __init__(self, trust: TrustInForce, clock: Clock) -> None:
        self._trust = trust
        self._clock = clock

    def admit_link(self, token: str | None, peer: PeerCertificate | None) -> ListenerGrant | SenderGrant | Refusal:
        """Decide on a link; the role follows from the credential, never from what the opener says it is.

        A listener needs a listen token and the client certificate that the token is bound to. A sender needs any call
        or workspace token, or, without a token, the control plane's certificate.
        """
        if self._trust.stale:
            return STALE
        if token is None:
            return self._admit_certificate(peer)
        claims = self._trust.verify(token, LINK_KINDS, self._clock.now())
        if isinstance(claims, Refusal):
            return claims
        if claims.kind is TokenKind.LISTEN:
            return self._admit_listener(claims, peer)
        credential = Credential(claims, subject=claims.subject, ends_at=self._trust.ends_at(claims))
        return self._trust.standing.refusal(credential) or SenderGrant(credential, claims.workspace_id)

    def no_longer(self, grant: ListenerGrant) -> Refusal | None:
        """Return why what was granted a while ago may not be used any more, or `None` where it still may."""
        if self._trust.stale:
            return STALE
        if grant.credential.ends_at <= self._clock.now():
            return Refusal(Outcome.EXPIRED_TOKEN, "the listen token has expired")
        return self._trust.standing.listener_refusal(grant.credential)

    def renew(self, listener: Listener, token: str) -> Refusal | None:
        """Take a new listen token for a listener's link: for the same node, bound to the same leaf."""
        claims = self._trust.verify(token, frozenset({TokenKind.LISTEN}), self._clock.now())
        if isinstance(claims, Refusal):
            return claims
        if (claims.workspace_id, claims.node_id) != (listener.workspace_id, listener.node_id):
            return Refusal(Outcome.WRONG_AUDIENCE, "the token is for another node")
        if claims.certificate_thumbprint != listener.thumbprint:
            return Refusal(
                Outcome.BAD_CERTIFICATE, "the token is bound to another certificate; open a new link with it"
            )
        credential = self._listen_credential(claims, listener.credential.certificate_serial)
        refusal = self._trust.standing.listener_refusal(credential)
        if refusal is None:
            listener.credential = credential
        return refusal

    def _admit_certificate(self, peer: PeerCertificate | None) -> SenderGrant | Refusal:
        spiffe_id = peer.spiffe_id if peer is not None else None
        if peer is None or spiffe_id is None or spiffe_id.role is not IdentityRole.CONTROL_PLANE:
            return Refusal(Outcome.NO_TOKEN, "a link needs a listen token or a call token in Authorization: Bearer")
        if spiffe_id.trust_domain != self._trust.trust_domain:
            return Refusal(Outcome.BAD_CERTIFICATE, "the certificate is of another trust domain")
        credential = Credential(None, subject=str(spiffe_id), ends_at=peer.not_after, certificate_serial=peer.serial)
        return self._trust.standing.refusal(credential) or SenderGrant(credential, None)

    def _admit_listener(self, claims: TokenClaims, peer: PeerCertificate | None) -> ListenerGrant | Refusal:
        if peer is None:
            return Refusal(Outcome.NO_CERTIFICATE, "a listener needs the client certificate that its token is bound to")
        if claims.workspace_id is None or claims.node_id is None or claims.workspace is None or claims.node is None:
            return Refusal(Outcome.BAD_TOKEN, "the listen token names no node")
        expected = node_id(self._trust.trust_domain, claims.workspace_id, claims.node_id)
        if peer.spiffe_id != expected or peer.thumbprint != claims.certificate_thumbprint:
            return Refusal(Outcome.BAD_CERTIFICATE, "the client certificate is not the one that the token is bound to")
        if peer.not_after <= self._clock.now():
            return Refusal(Outcome.BAD_CERTIFICATE, "the client certificate has expired")
        credential = self._listen_credential(claims, peer.serial)
        return self._trust.standing.listener_refusal(credential) or ListenerGrant(
            credential=credential,
            workspace_id=claims.workspace_id,
            node_id=claims.node_id,
            workspace=claims.workspace,
            node=claims.node,
            spiffe_id=str(expected),
            thumbprint=peer.thumbprint,
        )

    def _listen_credential(self, claims: TokenClaims, certificate_serial: str | None) -> Credential:
        return Credential(
            claims,
            subject=claims.subject,
            ends_at=self._trust.ends_at(claims),
            certificate_serial=certificate_serial,
        )
