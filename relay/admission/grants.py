"""Grants of calls: decisions that are kept by their token, and serve every further call to the same destination."""

from hashlib import blake2b
from typing import Final

from certs.tokens import TokenClaims
from relay.admission.quotas import Use
from relay.links.reached import Reached
from relay.trust.credentials import Credential, Destination
from relay.trust.standing import Standing

CONTROL_PLANE: Final = 0
"""The sender's number of calls that the control plane makes itself, whose tokens are its own: see `sender_number`."""


def sender_number(claims: TokenClaims) -> int:
    """Return what tells senders apart on a node's link: a number that is the same in all workers of a relay."""
    if claims.subject == claims.issuer:
        return CONTROL_PLANE
    return int.from_bytes(blake2b(claims.subject.encode(), digest_size=7).digest()) or 1


class Grant:
    """A decision for a call: its listener, and what to send it as proof.

    One object serves all calls of one token to one destination, for as long as it is valid; do not change it.

    Attributes:
        listener: whose link carries the call.
        sender: whose call it is, as a number, and 0 for the control plane; see `Link.open`.
        prefix: what has to be sent to the listener before a call's first bytes.
        credential: whose call it is.
        assertion: what to send in place of the token, for workspace tokens; else `None`, and the token itself goes.
        admitted: calls admitted since the last report.
        use: what its calls count towards; `None` where no quota bounds them.
    """

    __slots__ = (
        "admitted",
        "assertion",
        "credential",
        "destination",
        "good_until",
        "listener",
        "prefix",
        "sender",
        "standing",
        "use",
    )

    def __init__(
        self,
        listener: Reached,
        credential: Credential,
        destination: Destination,
        *,
        assertion: str | None,
        good_until: float,
        standing: Standing,
        use: Use | None,
        sender: int,
    ) -> None:
        self.listener = listener
        self.sender = sender
        self.prefix: bytes = listener.prefix_for(sender)
        self.credential = credential
        self.destination = destination
        self.assertion = assertion
        self.good_until = good_until
        self.standing = standing
        self.use = use
        self.admitted = 0

    @property
    def claims(self) -> TokenClaims | None:
        """The claims of the token that was used."""
        return self.credential.claims


class GrantedToken:
    """A call or workspace token, with what it was granted before; only admission has it, and touches it.

    Grants know the credential, and the credential knows no grants: a token that has ended is gone as soon as nobody
    uses it, and does not wait for a search for cycles, which in a relay with many links takes long and comes seldom.
    """

    __slots__ = ("credential", "grants")

    def __init__(self, claims: TokenClaims, *, ends_at: float) -> None:
        """Holds a verified token's claims, which end at `ends_at`, leeway included, in seconds since the epoch."""
        self.credential = Credential(claims, subject=claims.subject, ends_at=ends_at)
        self.grants: dict[Destination, Grant] = {}
