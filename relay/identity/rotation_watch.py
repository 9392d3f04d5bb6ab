"""Following a rotation: a relay whose certificate stands on a root that is to be left, or was left, renews it."""

import random
from collections.abc import Callable

from certs.chains import root_of
from certs.fingerprints import sha256_hex
from certs.succession import root_is_gone, root_is_retiring
from certs.trust import TrustStore
from relay.identity.own_identity import OwnIdentity
from trunkline.runtime.drawn_moment import DrawnMoment
from trunkline.runtime.logs import Logger


class RotationWatch:
    """Says which root the relay stands on, and asks for its renewal."""

    def __init__(self, *, identity: OwnIdentity, store: TrustStore, rng: random.Random, log: Logger) -> None:
        self._identity = identity
        self._store = store
        self._moment = DrawnMoment(rng)
        self._log = log

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
        delay_seconds = self._moment.draw(within_seconds, renew)
        if delay_seconds is not None:
            self._log.info("rotation.renewal_due", in_seconds=round(delay_seconds, 1))

    @property
    def renewal_due_at(self) -> float | None:
        """When a renewal will be asked for, by the loop's clock; None while none will."""
        return self._moment.at

    def close(self) -> None:
        """Ask for nothing any more."""
        self._moment.cancel()
