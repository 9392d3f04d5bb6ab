"""The trust in force: the document that says which keys, tokens, certificates, nodes and workspaces are good."""

from collections.abc import Callable
from pathlib import Path

from certs.errors import CertificateError
from certs.spiffe import SpiffeId
from certs.tokens import TokenClaims
from certs.trust import TrustDocument, TrustStore
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

TRUST_FILE = "trust-document.jws"


class TrustInForce:
    """Keeps the newest trust document, and answers for its revocations."""

    def __init__(self, directory: Path, clock: Clock, log: Logger) -> None:
        """Load what is stored.

        Raises:
            CertificateError: the stored document is damaged.
        """
        self._clock = clock
        self._log = log
        self._subscribers: list[Callable[[], None]] = []
        self.store = TrustStore(directory / TRUST_FILE)
        self._look_ups = _LookUps(self.store.current)

    @property
    def sequence(self) -> int:
        """The document's number; 0 before there is one."""
        return 0 if self.store.current is None else self.store.current.sequence

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when a newer document is in force."""
        self._subscribers.append(changed)

    def take(self, text: str) -> None:
        """Put a document in force.

        Raises:
            CertificateError: it is refused, being older, damaged, or signed by nobody who may.
        """
        before = self.sequence
        self.store.replace(text, self._clock.now())
        if self.sequence != before:
            self._look_ups = _LookUps(self.store.current)
            self._log.info("trust.adopted", sequence=self.sequence)
            for changed in self._subscribers:
                changed()

    def offer(self, text: object) -> None:
        """Take a document that somebody pushed; one that is refused changes nothing."""
        try:
            self.take(text if isinstance(text, str) else "")
        except CertificateError as error:
            self._log.warning("trust.refused", reason=str(error), sequence=self.sequence)

    def is_revoked(self, claims: TokenClaims, node: SpiffeId) -> bool:
        """Whether the token, what it stands on, or the node that it is for, is revoked or locked."""
        return self._look_ups.is_revoked(claims, node, self._clock.now())


class _LookUps:
    """One document as sets."""

    def __init__(self, document: TrustDocument | None) -> None:
        revoked = None if document is None else document.revocations
        self._token_ids = frozenset() if revoked is None else frozenset(revoked.token_ids)
        self._certificates = frozenset() if revoked is None else frozenset(revoked.certificates)
        self._nodes = frozenset() if revoked is None else frozenset(revoked.nodes)
        self._workspaces = frozenset() if revoked is None else frozenset(revoked.workspaces)
        self._keys = frozenset() if document is None else frozenset(key.key_id for key in document.token_keys)
        self._locks = {} if document is None else {(lock.kind, lock.id): lock.expires_at for lock in document.locks}

    def is_revoked(self, claims: TokenClaims, node: SpiffeId, now: float) -> bool:
        token_ids = (claims.token_id, claims.origin_token_id)
        if any(token_id in self._token_ids for token_id in token_ids):
            return True
        if claims.signer_serial in self._certificates or node.node_id in self._nodes:
            return True
        if node.workspace_id in self._workspaces or (claims.key_id is not None and claims.key_id not in self._keys):
            return True
        if not self._locks:
            return False
        named = [("token", token_id) for token_id in token_ids]
        named += [("certificate", claims.signer_serial), ("node", node.node_id), ("workspace", node.workspace_id)]
        return any(self._locks.get((kind, name), 0) > now for kind, name in named if name is not None)
