"""The control plane's own identity: its SVID, made anew at each start and renewed by itself, and its serving TLS.

The SVID's key is in memory only. It serves the API (unless a certificate from files does), signs trust documents, and
is what the relays know the control plane by when it dials their link door.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from cryptography import x509

from certs.chains import root_of
from certs.errors import CertificateError
from certs.fingerprints import sha256_hex
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.lifespan import lifespan_of
from certs.tls import ServerTls, TlsContext, client_context
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import ControlPlaneSettings, TlsSettings
from control_plane.signing.in_force import SignersInForce
from control_plane.storage.errors import StorageError
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.wall_time import sleep_until

LONGEST_PAUSE_SECONDS = 300.0


class OwnIdentity:
    """The SVID of this control plane and the TLS that stands on it."""

    def __init__(
        self,
        *,
        signers: SignersInForce,
        settings: ControlPlaneSettings,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._signers = signers
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._renewed: list[Callable[[], Awaitable[None]]] = []
        self._replaced = asyncio.Event()
        self.svid = self._issue()
        self._from_files = load_serving(settings.tls)
        self.tls = ServerTls(self._serving, self._client_roots, "optional", presented_roots=self._presented_roots)
        self._tell()

    def on_renewal(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await the callback after each renewal of the SVID."""
        self._renewed.append(callback)

    @property
    def root_id(self) -> str | None:
        """The SHA-256 of the trusted root that the SVID stands on."""
        root = root_of(self.svid.chain, self._signers.seats.roots)
        return None if root is None else sha256_hex(root)

    def client_tls(self) -> TlsContext:
        """Return a context for dialling relays: it presents the present SVID, and trusts what the settings say."""
        reach = self._settings.relay_reach
        if reach.public_roots or reach.ca_file is not None:
            return client_context(ca_file=reach.ca_file, identity=self.svid)
        return client_context(self._signers.seats.roots, identity=self.svid)

    async def renew(self) -> None:
        """Replace the SVID; connections that stand are left alone.

        Raises:
            CertificateError: the authority cannot issue it; the old one stays.
            StorageError: it is replaced, but the trust document could not be signed with it yet.
        """
        self._replace()
        for callback in self._renewed:
            await callback()

    @property
    def serial_of_files(self) -> str | None:
        """The serial number of the serving certificate that the settings name; None where the SVID serves."""
        return None if self._from_files is None else self._from_files.serial

    def give_up_ended(self) -> None:
        """Replace the SVID, whose revocation or lock is published, or about to be.

        It stays if the authority issues no other.
        """
        try:
            self._replace()
        except CertificateError as error:
            self._log.error(
                "identity.not_renewed",
                reason=str(error),
                consequence="relays and agents take nothing from this control plane",
            )

    def reload(self) -> None:
        """Read the serving certificate's files again; if they are no good, the one in use stays."""
        try:
            self._from_files = load_serving(self._settings.tls)
            self._swap()
        except CertificateError as error:
            self._log.error("identity.certificate_not_reloaded", reason=str(error))

    async def keep(self) -> None:
        """Renew the SVID for ever, each time at a random 50 to 70 % of its life; what fails is tried again.

        A clock that is set back makes an SVID of the future, which nobody takes: it is replaced at once.
        """
        backoff = Backoff(self._rng, cap_seconds=LONGEST_PAUSE_SECONDS)
        while True:
            await self._wait_until_due()
            while not await self._try_to_renew():  # noqa: ASYNC110 - a retry, not a condition to wait for
                await asyncio.sleep(backoff.next_delay_seconds(self._clock.monotonic()))
            backoff.reset()

    async def _wait_until_due(self) -> None:
        """Wait until the SVID in use is to be renewed: a rotation or a revocation may put another in its place."""
        while True:
            svid, life = self.svid, lifespan_of(self.svid.chain)
            due = life.renew_at(self._rng)
            while svid is self.svid:
                if not life.has_begun(self._clock.now()) or self._clock.now() >= due:
                    return
                await sleep_until(due, self._clock, wake=self._replaced)

    async def _try_to_renew(self) -> bool:
        try:
            await self.renew()
        except (CertificateError, StorageError) as error:
            self._log.error("identity.not_renewed", reason=str(error))
            return False
        return True

    @property
    def _serving(self) -> Identity:
        return self._from_files or self.svid

    @property
    def _presented_roots(self) -> tuple[x509.Certificate, ...]:
        """Roots go along with the own certificate, for clients that were given a root's hash only.

        Those that were left stand before those that are trusted: a client that knows one of them has to find the
        cross certificate before it, and none of the new root that leads nowhere for it.
        """
        if self._from_files is not None:
            return ()
        seats = self._signers.seats
        return (*seats.left_roots, *reversed(seats.roots))

    @property
    def _client_roots(self) -> tuple[x509.Certificate, ...]:
        """Clients may come under a root that was left, too; `Credentials` takes those by their record only."""
        seats = self._signers.seats
        return (*seats.roots, *seats.left_roots)

    def _replace(self) -> None:
        self.svid = self._issue()
        self._replaced.set()
        self._swap()
        self._log.info("identity.renewed", expires_at=int(self.svid.chain.not_after))

    def _swap(self) -> None:
        self.tls.swap(self._serving, self._client_roots, presented_roots=self._presented_roots)
        self._tell()

    def _issue(self) -> Identity:
        key = generate_key()
        chain = self._signers.authority.issue_control_plane(
            build_csr(key),
            self._settings.identity.dns_names,
            self._settings.tokens.own_svid_seconds,
            now=self._clock.now(),
        )
        return Identity(key, chain)

    def _tell(self) -> None:
        expiry = self._metrics.certificate_expiry
        expiry.labels("svid").set(self.svid.chain.not_after)
        expiry.labels("serving").set(self._serving.chain.not_after)
        expiry.labels("issuing").set(self._signers.authority.not_after)


def load_serving(tls: TlsSettings) -> Identity | None:
    """Return the serving certificate that the settings name, or None if the own authority's is to be used.

    Raises:
        CertificateError: the files are missing, damaged, or do not belong together.
    """
    if tls.certificate_file is None or tls.key_file is None:
        return None
    return Identity.load_pair(tls.certificate_file, tls.key_file)
