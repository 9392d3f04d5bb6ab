"""Evidence: what a machine proves itself with, and the interface behind which each kind is verified.

Verification looks at the evidence alone, may ask the network, and holds no transaction. What then becomes of the
machine is decided inside the transaction in which the node is made, see `control_plane.attestation.admission`.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from certs.caller_identity import SignedCallerIdentity
from control_plane.attestation.machine import AttestedMachine

JOIN_TOKEN = "join_token"  # noqa: S105 - the name of a method


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was presented; none of it is ever logged, audited or stored.

    Attributes:
        method: `azure`, `aws`, `gcp` or `join_token`.
        token: a token of the platform, or a join token.
        document: a signed document, as base64.
        caller: a signed request by which AWS names the caller.
    """

    method: str
    token: str = field(default="", repr=False)
    document: str = field(default="", repr=False)
    caller: SignedCallerIdentity | None = field(default=None, repr=False)

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of all its parts, which may be audited; of a token alone, it is the token's own."""
        parts = [self.token, self.document]
        if self.caller is not None:
            parts += [self.caller.date, self.caller.access_key_id, self.caller.session_token, self.caller.signature]
        text = "\n".join(part for part in parts if part)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class HeldJoinToken:
    """Whoever holds this join token: nothing is known of it until it is used up, inside the transaction."""

    token: str = field(repr=False)


class EvidenceProvider(Protocol):
    """Verifies one kind of evidence."""

    async def verify(self, evidence: Evidence, nonce: str, now: float) -> AttestedMachine | HeldJoinToken:
        """Tell what the evidence proves, made for this evidence nonce.

        Raises:
            AttestationRefused: nothing, or nothing at present.
        """
        ...
