"""How credentials stand under one trust document: good, revoked, locked, or signed with a key that is gone."""

from certs.trust import TrustDocument
from relay.credentials import Credential, Refusal
from trunkline.channel.outcomes import Outcome

NEVER = float("inf")


class Standing:
    """One trust document, turned into look-ups.

    A new document, or the end of a lock, makes a new object: whoever keeps a decision keeps the `Standing` that it was
    made under, and looks again when that is no longer the one in force, or at `valid_until`.
    """

    __slots__ = ("_certificates", "_keys", "_locks", "_nodes", "_token_ids", "_workspaces", "sequence", "valid_until")

    def __init__(self, document: TrustDocument, now: float) -> None:
        revoked = document.revocations
        self.sequence = document.sequence
        self._token_ids = frozenset(revoked.token_ids)
        self._certificates = frozenset(revoked.certificates)
        self._nodes = frozenset(revoked.nodes)
        self._workspaces = frozenset(revoked.workspaces)
        self._keys = frozenset(key.key_id for key in document.token_keys)
        live = [lock for lock in document.locks if lock.expires_at > now]
        self._locks = {(lock.kind, lock.id): lock.reason for lock in live}
        self.valid_until = min((float(lock.expires_at) for lock in live), default=NEVER)

    def refusal(self, credential: Credential) -> Refusal | None:
        """Return why a credential is no good under this document, or `None`."""
        if credential.key_id is not None and credential.key_id not in self._keys:
            return Refusal(Outcome.REVOKED, "the key that signed the token is no longer trusted")
        return self.refusal_of(
            token_id=credential.token_id,
            certificate=credential.certificate_serial,
            node_id=credential.node_id,
            workspace_id=credential.workspace_id,
        )

    def refusal_of(
        self,
        *,
        token_id: str | None = None,
        certificate: str | None = None,
        node_id: str | None = None,
        workspace_id: str | None = None,
    ) -> Refusal | None:
        """The same for the parts by which revocations and locks name what they end."""
        if token_id in self._token_ids:
            return Refusal(Outcome.REVOKED, "the token is revoked")
        if certificate in self._certificates:
            return Refusal(Outcome.REVOKED, "the certificate is revoked")
        if node_id in self._nodes:
            return Refusal(Outcome.REVOKED, "the node is revoked")
        if workspace_id in self._workspaces:
            return Refusal(Outcome.REVOKED, "the workspace is revoked")
        if self._locks:
            return self._lock({"token": token_id, "certificate": certificate, "node": node_id,
                               "workspace": workspace_id})  # fmt: skip
        return None

    def _lock(self, named: dict[str, str | None]) -> Refusal | None:
        for kind, name in named.items():
            if name is not None and (kind, name) in self._locks:
                return Refusal(Outcome.LOCKED, f"the {kind} is locked")
        return None
