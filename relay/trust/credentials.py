"""What admission decides on and about: credentials, destinations, grants of links and refusals, as plain values."""

from typing import Final, NamedTuple

from certs.tokens import TokenClaims
from certs.trust import TrustVerdict
from trunkline.channel.outcomes import Outcome

AGENT_PORT: Final = 80
RESERVED_PORT: Final = 443


class Destination(NamedTuple):
    """Where a call is to go: names, lower-case DNS labels, and a port from 1 to 65535."""

    workspace: str
    node: str
    port: int


class Refusal(NamedTuple):
    """A decision against: the outcome that says how to answer, and one line for humans without secrets.

    `verdict` names the revocation or lock behind it, where there is one.
    """

    outcome: Outcome
    message: str
    verdict: TrustVerdict | None = None


class Credential:
    """What somebody has proved to be: a verified token, or the certificate of a link that needs no token.

    The same object stands for every use of one token, so that a revocation finds all of them.

    Attributes:
        claims: the token's claims; `None` for a link that stands on its certificate alone.
        token_id: the token's `jti`.
        certificate_serial: of the client certificate, where the credential is bound to one.
        ends_at: when it ends, leeway included, in seconds since the epoch.
    """

    __slots__ = (
        "certificate_serial",
        "claims",
        "ends_at",
        "key_id",
        "node_id",
        "subject",
        "token_id",
        "workspace_id",
    )

    def __init__(
        self, claims: TokenClaims | None, *, subject: str, ends_at: float, certificate_serial: str | None = None
    ) -> None:
        self.claims = claims
        self.subject = subject
        self.ends_at = ends_at
        self.certificate_serial = certificate_serial
        self.token_id = claims.token_id if claims is not None else None
        self.key_id = claims.key_id if claims is not None else None
        self.workspace_id = claims.workspace_id if claims is not None else None
        self.node_id = claims.node_id if claims is not None else None


class ListenerGrant(NamedTuple):
    """A decision for a listener's link.

    Attributes:
        credential: the listen token with the leaf that it is bound to.
        spiffe_id: the node's identity, which is the audience of the call tokens for it.
        thumbprint: of the leaf; a renewed token must be bound to the same.
    """

    credential: Credential
    workspace_id: str
    node_id: str
    workspace: str
    node: str
    spiffe_id: str
    thumbprint: str


class SenderGrant(NamedTuple):
    """A decision for a sender's link; each of its streams is admitted on its own."""

    credential: Credential
    workspace_id: str | None
