"""Trust documents for tests of the relay: signed by a kit's control plane, counted up as they are made."""

from typing import Any

from certs.trust import Revocations, TrustDocument, TrustLock, TrustStore, sign_trust_document
from tests.support.identities import IdentityKit

NEVER_EXPIRES = 4_000_000_000


class TrustPress:
    """Makes the trust documents of one kit."""

    def __init__(self, kit: IdentityKit) -> None:
        self.kit = kit
        self.sequence = 0

    def document(self, *, sequence: int | None = None, locks: tuple[TrustLock, ...] = (), **revoked: Any) -> str:
        """The next document: `token_ids`, `certificates`, `nodes` and `workspaces` are revoked."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        document = TrustDocument(
            trust_domain=self.kit.trust_domain,
            sequence=self.sequence,
            issued_at=int(self.kit.now),
            roots=tuple(self.kit.roots),
            token_keys=(self.kit.token_key,),
            revocations=Revocations(
                token_ids=dict.fromkeys(revoked.get("token_ids", ()), NEVER_EXPIRES),
                certificates=dict.fromkeys(revoked.get("certificates", ()), NEVER_EXPIRES),
                nodes=tuple(revoked.get("nodes", ())),
                workspaces=tuple(revoked.get("workspaces", ())),
            ),
            locks=locks,
            name_suffix="trunk.internal",
        )
        return sign_trust_document(document, self.kit.control_plane)

    def store(self) -> TrustStore:
        """A store in memory that holds the first document."""
        store = TrustStore(None)
        store.replace(self.document(), self.kit.now)
        return store


def lock(kind: str, name: str, *, expires_at: float = NEVER_EXPIRES) -> TrustLock:
    """A lock on a node, a workspace, a token or a certificate."""
    return TrustLock(kind=kind, id=name, expires_at=int(expires_at), reason="test")
