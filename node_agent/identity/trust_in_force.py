"""The trust in force: the document that says which keys, tokens, certificates, nodes and workspaces are good."""

from collections.abc import Callable
from pathlib import Path

from certs.errors import CertificateError, TrustRollbackError
from certs.tokens import TokenClaims
from certs.trust import TrustDocument, TrustStore, TrustVerdict
from trunkline.channel.limits import RateBound
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

TRUST_FILE = "trust-document.jws"
LOG_BURST = 10
LOG_INTERVAL_SECONDS = 60.0
"""Refused documents that are logged at once, and how often beyond: a relay may push any number."""


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
        self._rolled_back: list[Callable[[], None]] = []
        self._log_bound = RateBound(LOG_BURST, 1 / LOG_INTERVAL_SECONDS, clock.monotonic())
        self.store = TrustStore(directory / TRUST_FILE)

    @property
    def sequence(self) -> int:
        """The document's number; 0 before there is one."""
        return 0 if self.store.current is None else self.store.current.sequence

    def relays_or(self, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        """Return the relays that the document names, or else those given."""
        document = self.store.current
        return otherwise if document is None or document.relays is None else tuple(document.relays)

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when a newer document is in force."""
        self._subscribers.append(changed)

    def on_rollback(self, offered: Callable[[], None]) -> None:
        """Have `offered` called when a relay pushes a genuine document that goes behind the one in force."""
        self._rolled_back.append(offered)

    def take(self, text: str) -> None:
        """Put a document in force.

        Raises:
            CertificateError: it is refused, being older, damaged, or signed by nobody who may.
        """
        if self.store.replace(text, self._clock.now()):
            self._log.info("trust.adopted", sequence=self.sequence)
            for changed in self._subscribers:
                changed()

    def offer(self, text: object) -> None:
        """Take a document that somebody pushed; one that is refused changes nothing."""
        try:
            self.take(text if isinstance(text, str) else "")
        except CertificateError as error:
            if self._log_bound.spend(self._clock.monotonic()):
                self._log.warning("trust.refused", reason=str(error), sequence=self.sequence)
            if isinstance(error, TrustRollbackError):
                for offered in self._rolled_back:
                    offered()

    def offer_newer(self, text: object) -> None:
        """Take a document that came along with an answer; where there is none, the service is an older one."""
        if text is not None:
            self.offer(text)

    def verdict(self, claims: TokenClaims) -> TrustVerdict | None:
        """What has ended the use of the token: a revocation or a lock, of it or of what it stands on or is for."""
        document = self.store.current
        if document is None or (claims.key_id is not None and not self._knows(document, claims.key_id)):
            return TrustVerdict(False, "key", claims.key_id or "")
        return document.verdict(claims, self._clock.now())

    def certificate_verdict(self, serial: str) -> TrustVerdict | None:
        """What has ended the use of a relay's, or the control plane's, certificate: a revocation or a lock of it."""
        return self.store.certificate_verdict(serial, self._clock.now())

    def _knows(self, document: TrustDocument, key_id: str) -> bool:
        """Whether a key is trusted, or was left in a rotation: what it admitted before goes on."""
        return self.store.keyring.find(key_id) is not None or key_id in document.retirement.left_token_keys
