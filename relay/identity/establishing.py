"""What the relay does before it can serve: find or get its identity, and open the trust that it holds."""

import random
from collections.abc import Callable
from typing import NamedTuple

from certs.errors import CertificateError, KeyFileError
from certs.identities import Identity
from certs.lifespan import lifespan_of
from certs.trust import TrustStore
from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.server_trust import ControlPlaneTrust
from relay.control_plane.trust_feed import SNAPSHOT_PATH
from relay.identity.enrolment import ask, enrol, finish_enrolment
from relay.identity.late_renewal import LateRenewal
from relay.identity.own_identity import IDENTITY_FILE, OwnIdentity, load_identity
from relay.identity.renewal import CONFIRM_PATH, REFUSED_PAUSE_SECONDS, SKEWED_PAUSE_SECONDS
from relay.identity.succession import Succession
from relay.settings import RelaySettings
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread
from trunkline.runtime.wall_time import sleep_unless

STATE_FORMAT = "trunkline-relay 1"
TRUST_FILE = "trust-document.jws"


class Established(NamedTuple):
    """A relay that knows who it is."""

    identity: OwnIdentity
    store: TrustStore
    trust: ControlPlaneTrust
    client: ControlPlaneClient
    clock_offset: ClockOffset


class Establishing:
    """Loads the identity and the trust document, or enrols."""

    def __init__(self, settings: RelaySettings, *, clock: Clock, rng: random.Random, log: Logger) -> None:
        self._settings = settings
        self._directory = settings.state_directory
        self._clock = clock
        self._rng = rng
        self._log = log
        self._offset = ClockOffset(clock)

    async def run(self) -> Established:
        """Do it, waiting for the control plane where it is needed.

        Raises:
            StartError: what is stored is unusable, or there is nothing and no way to get it.
            StateDirectoryError: the disk does not take what is to be stored: a later start may do better.
        """
        try:
            return await self._establish(ControlPlaneTrust(self._settings.control_plane))
        except KeyFileError as error:
            kind = StateDirectoryError if isinstance(error.__cause__, OSError) else StartError
            raise kind(str(error)) from None
        except CertificateError as error:
            raise StartError(self._offset.complaint() or str(error)) from None

    async def _establish(self, trust: ControlPlaneTrust) -> Established:
        identity = load_identity(self._directory)
        store = TrustStore(self._directory / TRUST_FILE)
        if identity is None:
            identity = await self._enrol(trust, store)
        own = OwnIdentity(identity, self._directory / IDENTITY_FILE)
        await self._wait_until_valid(own, store, trust)
        client = self._client(trust, store, own.current)
        if store.current is None:
            await self._fetch_document(client, store)
        return Established(own, store, trust, client, self._offset)

    def _client(self, trust: ControlPlaneTrust, store: TrustStore, identity: Identity | None) -> ControlPlaneClient:
        return ControlPlaneClient(
            self._settings.control_plane.url,
            trust.tls(identity),
            self._offset,
            verdict=lambda serial: store.certificate_verdict(serial, self._clock.now()),
        )

    async def _wait_until_valid(self, own: OwnIdentity, store: TrustStore, trust: ControlPlaneTrust) -> None:
        """Take a successor that is valid where the identity is not; else renew it late, once the clock is right.

        Raises:
            StartError: it has expired, and will not be renewed.
        """
        succession = Succession(self._directory, identity=own, store=store, clock=self._clock, log=self._log)
        heir = None if self._is_valid(own.current) else await in_thread(succession.waiting)
        if heir is not None and self._is_valid(heir):
            await succession.commit(heir)
        late = LateRenewal(identity=own, succession=succession, take_trust=self._taking(store))
        backoff = Backoff(self._rng)
        while not self._is_valid(own.current):
            waits = await self._renew_late(late, succession, trust, store)
            if waits is not None:
                reason, pause = waits
                self._log.error("relay.identity_not_valid", reason=reason)
                delay = backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=pause)
                await sleep_unless(lambda: self._is_valid(own.current), delay, self._clock)

    def _taking(self, store: TrustStore) -> Callable[[str], object]:
        return lambda document: store.replace(document, self._clock.now())

    async def _renew_late(
        self, late: LateRenewal, succession: Succession, trust: ControlPlaneTrust, store: TrustStore
    ) -> tuple[str, float] | None:
        """Renew the identity by its key alone; return why to wait and how long (seconds) at least, or None if it is.

        Raises:
            StartError: the control plane does not grant it.
        """
        try:
            await self._obtain_and_prove(late, succession, trust, store)
        except ClockSkewed as error:
            return str(error), SKEWED_PAUSE_SECONDS
        except ControlPlaneUnreachable as error:
            return f"the certificate has expired, unless the clock is wrong: {error}", 1.0
        except ControlPlaneRefused as error:
            if not error.permanent:
                return f"the certificate has expired, and is not renewed yet: {error}", REFUSED_PAUSE_SECONDS
            path = self._directory / IDENTITY_FILE
            raise StartError(
                f"the relay's certificate has expired, and is not renewed ({error}): "
                f"remove {path}, and enrol with a new join token"
            ) from None
        return None

    async def _obtain_and_prove(
        self, late: LateRenewal, succession: Succession, trust: ControlPlaneTrust, store: TrustStore
    ) -> None:
        client = self._client(trust, store, None)
        try:
            await late.obtain(client)
        finally:
            await client.close()
        heir = await in_thread(succession.waiting)
        if heir is None:
            raise ControlPlaneUnreachable("the control plane's answer is of no use")
        client = self._client(trust, store, heir)
        try:
            await client.call("POST", CONFIRM_PATH, {})
        finally:
            await client.close()
        await succession.commit(heir)
        self._log.warning("relay.identity_back", serial=heir.serial)

    def _is_valid(self, identity: Identity) -> bool:
        return lifespan_of(identity.chain).covers(self._clock.now())

    async def _enrol(self, trust: ControlPlaneTrust, store: TrustStore) -> Identity:
        client = self._client(trust, store, None)
        try:
            enrolled = await enrol(
                self._settings.enrolment,
                client=client,
                state_directory=self._directory,
                clock=self._clock,
                backoff=Backoff(self._rng),
                log=self._log,
            )
        finally:
            await client.close()
        store.replace(enrolled.trust_document, self._clock.now())
        finish_enrolment(enrolled, self._directory)
        self._log.info("relay.enrolled", identity=str(enrolled.identity.spiffe_id))
        return enrolled.identity

    async def _fetch_document(self, client: ControlPlaneClient, store: TrustStore) -> None:
        """Get a trust document anew where the stored one was lost."""
        try:
            answer = await ask(
                client, "GET", SNAPSHOT_PATH, clock=self._clock, backoff=Backoff(self._rng), log=self._log
            )
            store.replace(str(answer.get("trust_document", "")), self._clock.now())
        except BaseException:
            await client.close()
            raise
