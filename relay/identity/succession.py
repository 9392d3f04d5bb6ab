"""Succession: how a renewed SVID takes the place of the relay's old one, whatever comes in between.

Theory of operation. Each step is on the disk before the next is taken: the key and its signing request; the answer, as
successor, in a slot of its own; and only after a connection made with it has been answered by the control plane, the
commit, by a rename. Asking again with the same request is answered the same. The old SVID is good until it ends.
"""

from pathlib import Path

from certs.chains import CertificateChain, verify_chain
from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.keyfiles import load_key, load_or_create_key, read_secret, write_secret
from certs.lifespan import EARLIEST_RENEWAL, lifespan_of
from certs.succession import root_is_gone
from certs.trust import TrustStore
from relay.identity.own_identity import OwnIdentity
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

KEY_FILE = "renewal-key.pem"
REQUEST_FILE = "renewal-request.pem"
SUCCESSOR_FILE = "identity-successor.pem"


class Succession:
    """The files of a renewal, and the steps between them: all but `commit` block on the disk, and are for a thread."""

    def __init__(self, directory: Path, *, identity: OwnIdentity, store: TrustStore, clock: Clock, log: Logger) -> None:
        self._key = directory / KEY_FILE
        self._request = directory / REQUEST_FILE
        self._successor = directory / SUCCESSOR_FILE
        self._identity = identity
        self._store = store
        self._clock = clock
        self._log = log

    def waiting(self) -> Identity | None:
        """Return the successor, unless it is of no use: damaged, in force already, too old, or left.

        One is left where a rotation has ended the authority that issued it. One of the future, which clocks that were
        ahead have made, nobody would take: it is passed over, and another asked for in its place.

        Raises:
            OSError: one that is of no use cannot be removed.
        """
        if not self._successor.exists():
            return None
        try:
            heir, current = Identity.load(self._successor), self._identity.current
            life, now = lifespan_of(heir.chain), self._clock.now()
            if not life.has_begun(now):
                return None
            overdue = life.is_overdue(now)
            is_other = heir.spiffe_id == current.spiffe_id and heir.serial != current.serial
            if is_other and not overdue and not self._is_left(heir):
                return heir
        except CertificateError as error:
            self._log.warning("certificate.successor_damaged", reason=str(error), consequence="it is asked for anew")
        self._successor.unlink(missing_ok=True)
        return None

    def request(self) -> str:
        """Return the signing request under way, or make one; it is on the disk before it is sent.

        Raises:
            CertificateError: it cannot be stored, or what is stored is damaged.
        """
        if not self._request.exists() or self._is_over():
            self.forget()
            write_secret(self._request, build_csr(load_or_create_key(self._key)).encode("ascii"))
        return read_secret(self._request).decode("ascii", "replace")

    def keep(self, chain_pem: str) -> None:
        """Keep what was answered as successor.

        Raises:
            CertificateError: it is of no use, or cannot be stored.
        """
        now = self._clock.now()
        heir = Identity(load_key(self._key), CertificateChain.from_pem(chain_pem))
        if heir.spiffe_id != self._identity.current.spiffe_id:
            raise CertificateError("the renewed certificate is for another identity")
        verify_chain(heir.chain, self._store.keyring.roots, now)
        if now >= lifespan_of(heir.chain).at(EARLIEST_RENEWAL):
            self.forget()
            raise CertificateError("the control plane's answer is to a request of long ago: a new one is made")
        heir.write(self._successor)

    async def commit(self, heir: Identity) -> None:
        """Put the successor in force, on the disk and for everybody in this process.

        Raises:
            CertificateError, OSError: it cannot be stored; the old one stays.
        """
        await self._identity.replace(heir)
        await in_thread(self.drop)

    def drop(self) -> None:
        """Forget the successor, and the request that it came from.

        Raises:
            OSError: it cannot be removed.
        """
        self._successor.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Forget the request.

        Raises:
            OSError: it cannot be removed.
        """
        self._request.unlink(missing_ok=True)
        self._key.unlink(missing_ok=True)

    def _is_left(self, heir: Identity) -> bool:
        """Whether a rotation has ended the authority that issued it."""
        return self._store.current is not None and root_is_gone(heir.chain, self._store.current)

    def _is_over(self) -> bool:
        """Whether the certificate in force came of the request, or its key is lost."""
        try:
            return load_key(self._key).public_key() == self._identity.current.chain.leaf.public_key()
        except CertificateError:
            return True
