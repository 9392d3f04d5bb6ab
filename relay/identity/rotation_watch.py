"""Following a rotation: a relay whose certificate stands on a root that is to be left, or was left, renews it."""

import asyncio
import random
from collections.abc import Callable

from certs.chains import root_of
from certs.fingerprints import sha256_hex
from certs.succession import root_is_gone, root_is_retiring
from certs.trust import TrustStore
from relay.identity.own_identity import OwnIdentity
from trunkline.runtime.logs import Logger


class RotationWatch:
    """Says which root the relay stands on, and asks for its renewal."""

    def __init__(self, *, identity: OwnIdentity, store: TrustStore, rng: random.Random, log: Logger) -> None:
        self._identity = identity
        self._store = store
        self._rng = rng
        self._log = log
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def root_id(self) -> str | None:
        """The SHA-256 of the trusted root that the relay's certificate stands on; None if it stands on none."""
        root = root_of(self._identity.current.chain, self._store.keyring.roots)
        return None if root is None else sha256_hex(root)

    def look(self, renew: Callable[[], None]) -> None:
        """See whether the certificate is to be renewed, and have it renewed at a random moment within the time given.

        Under a root that is trusted no more, that is now. Documents that come meanwhile do not put it off.
        """
        document = self._store.current
        chain = self._identity.current.chain
        if document is None or not root_is_retiring(chain, document):
            self.close()
            return
        within_seconds = 0 if root_is_gone(chain, document) else document.retirement.renew_within_seconds
        loop, due_at = asyncio.get_running_loop(), self.renewal_due_at
        if due_at is not None and due_at <= loop.time() + within_seconds:
            return
        self.close()
        delay_seconds = self._rng.uniform(0.0, within_seconds)
        self._log.info("rotation.renewal_due", in_seconds=round(delay_seconds, 1))
        self._waiting = loop.call_later(delay_seconds, self._ask, renew)

    @property
    def renewal_due_at(self) -> float | None:
        """When a renewal will be asked for, by the loop's clock; None while none will."""
        return None if self._waiting is None else self._waiting.when()

    def _ask(self, renew: Callable[[], None]) -> None:
        self._waiting = None
        renew()

    def close(self) -> None:
        """Ask for nothing any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
