"""What the relay does before it can serve: find or get its identity, and open the trust that it holds."""

import random
from typing import NamedTuple

from certs.errors import CertificateError
from certs.identities import Identity
from certs.trust import TrustStore
from relay.control_plane_client import ControlPlaneClient
from relay.control_plane_trust import ControlPlaneTrust
from relay.enrolment import ask, enrol, finish_enrolment
from relay.identity import IDENTITY_FILE, OwnIdentity, load_identity
from relay.settings import RelaySettings
from relay.trust_feed import SNAPSHOT_PATH
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.logs import Logger

STATE_FORMAT = "trunkline-relay 1"
TRUST_FILE = "trust-document.jws"


class Established(NamedTuple):
    """A relay that knows who it is."""

    identity: OwnIdentity
    store: TrustStore
    trust: ControlPlaneTrust
    client: ControlPlaneClient


class Establishing:
    """Loads the identity and the trust document, or enrols."""

    def __init__(self, settings: RelaySettings, *, clock: Clock, rng: random.Random, log: Logger) -> None:
        self._settings = settings
        self._directory = settings.state_directory
        self._clock = clock
        self._rng = rng
        self._log = log

    async def run(self) -> Established:
        """Do it, waiting for the control plane where it is needed.

        Raises:
            StartError: what is stored is unusable, or there is nothing and no way to get it.
        """
        try:
            return await self._establish(ControlPlaneTrust(self._settings.control_plane))
        except CertificateError as error:
            raise StartError(str(error)) from None

    async def _establish(self, trust: ControlPlaneTrust) -> Established:
        path = self._directory / IDENTITY_FILE
        identity = load_identity(self._directory)
        store = TrustStore(self._directory / TRUST_FILE)
        if identity is None:
            identity = await self._enrol(trust, store)
        elif identity.not_after <= self._clock.now():
            raise StartError(f"the relay's certificate has expired: remove {path}, and enrol with a new join token")
        own = OwnIdentity(identity, path)
        client = ControlPlaneClient(self._settings.control_plane.url, trust.tls(identity))
        if store.current is None:
            await self._fetch_document(client, store)
        return Established(own, store, trust, client)

    async def _enrol(self, trust: ControlPlaneTrust, store: TrustStore) -> Identity:
        client = ControlPlaneClient(self._settings.control_plane.url, trust.tls(None))
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
