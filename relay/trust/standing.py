"""How credentials stand under one trust document: good, revoked, locked, or signed with a key that is gone."""

from certs.trust import TrustDocument, TrustVerdict
from relay.trust.credentials import Credential, Refusal
from relay.trust.use_kinds import UseKind
from relay.trust.uses import Cuttable
from trunkline.channel.outcomes import Outcome

NEVER = float("inf")
ON_LINK_ITSELF = frozenset({"token", "certificate"})
ANY_KIND = frozenset({"token", "certificate", "node", "workspace"})


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
        # Keys that a rotation has left admit nothing new (the verifier knows them not), and what they admitted goes on.
        self._keys = frozenset(key.key_id for key in document.token_keys) | frozenset(
            document.retirement.left_token_keys
        )
        live = [lock for lock in document.locks if lock.expires_at > now]
        self._locks = frozenset((lock.kind, lock.id) for lock in live)
        self.valid_until = min((float(lock.expires_at) for lock in live), default=NEVER)

    def judge(self, user: Cuttable, credential: Credential) -> Refusal | None:
        """Return why an open use may not go on, or `None`."""
        if user.kind is UseKind.LISTENER:
            return self.listener_refusal(credential)
        refusal = self.refusal(credential)
        if refusal is None and user.towards is not None:
            node_id, workspace_id = user.towards
            refusal = self.refusal_of(node_id=node_id, workspace_id=workspace_id)
        return refusal

    def refusal(self, credential: Credential, locks: frozenset[str] = ANY_KIND) -> Refusal | None:
        """Return why a credential is no good under this document, or `None`; only `locks` of these kinds count."""
        if credential.key_id is not None and credential.key_id not in self._keys:
            verdict = TrustVerdict(False, "key", credential.key_id)
            return Refusal(Outcome.REVOKED, "the key that signed the token is no longer trusted", verdict)
        return self.refusal_of(
            token_id=credential.token_id,
            certificate=credential.certificate_serial,
            node_id=credential.node_id,
            workspace_id=credential.workspace_id,
            locks=locks,
        )

    def listener_refusal(self, credential: Credential) -> Refusal | None:
        """The same for a listener's link, which outlives a lock on its node or workspace.

        No call goes to a locked node, so its link is harmless; and it is how the node learns of the lock and of its
        end, and is back the moment that it is lifted.
        """
        return self.refusal(credential, ON_LINK_ITSELF)

    def refusal_of(
        self,
        *,
        token_id: str | None = None,
        certificate: str | None = None,
        node_id: str | None = None,
        workspace_id: str | None = None,
        locks: frozenset[str] = ANY_KIND,
    ) -> Refusal | None:
        """The same for the parts by which revocations and locks name what they end."""
        if token_id in self._token_ids:
            return _revoked("token", token_id)
        if certificate in self._certificates:
            return _revoked("certificate", certificate)
        if node_id in self._nodes:
            return _revoked("node", node_id)
        if workspace_id in self._workspaces:
            return _revoked("workspace", workspace_id)
        if self._locks:
            named = {"token": token_id, "certificate": certificate, "node": node_id, "workspace": workspace_id}
            return self._lock(named, locks)
        return None

    def _lock(self, named: dict[str, str | None], kinds: frozenset[str]) -> Refusal | None:
        for kind, name in named.items():
            if kind in kinds and name is not None and (kind, name) in self._locks:
                return Refusal(Outcome.LOCKED, f"the {kind} is locked", TrustVerdict(True, kind, name))
        return None


def _revoked(kind: str, name: str | None) -> Refusal:
    return Refusal(Outcome.REVOKED, f"the {kind} is revoked", TrustVerdict(False, kind, str(name)))
