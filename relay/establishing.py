"""What the relay does before it can serve: find or get its identity, and open the trust that it holds."""

import random
from typing import NamedTuple

from certs.errors import CertificateError
from certs.identities import Identity
from certs.pins import pinned_context
from certs.tls import TlsContext, client_context
from certs.trust import TrustStore
from relay.control_plane_client import ControlPlaneClient
from relay.enrolment import ask, enrol, finish_enrolment
from relay.identity import IDENTITY_FILE, OwnIdentity, load_identity
from relay.settings import ControlPlaneSettings, RelaySettings
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
    client: ControlPlaneClient


async def establish(settings: RelaySettings, *, clock: Clock, rng: random.Random, log: Logger) -> Established:
    """Load the identity and the trust document, or enrol.

    Raises:
        StartError: what is stored is unusable, or there is nothing and no way to get it.
    """
    directory = settings.state_directory
    try:
        identity = load_identity(directory)
        store = TrustStore(directory / TRUST_FILE)
        if identity is None:
            identity = await _enrol(settings, store, clock, rng, log)
        elif identity.not_after <= clock.now():
            raise StartError(
                f"the relay's certificate has expired; remove {directory / IDENTITY_FILE} and enrol with a new join token"
            )
        own = OwnIdentity(identity, directory / IDENTITY_FILE)
        client = ControlPlaneClient(settings.control_plane.url, control_plane_tls(settings.control_plane, identity))
        if store.current is None:
            await _fetch_trust(client, store, clock, rng, log)
    except CertificateError as error:
        raise StartError(str(error)) from None
    return Established(own, store, client)


async def _enrol(settings: RelaySettings, store: TrustStore, clock: Clock, rng: random.Random, log: Logger) -> Identity:
    client = ControlPlaneClient(settings.control_plane.url, control_plane_tls(settings.control_plane, None))
    try:
        enrolled = await enrol(
            settings.enrolment,
            client=client,
            state_directory=settings.state_directory,
            clock=clock,
            backoff=Backoff(rng),
            log=log,
        )
    finally:
        await client.close()
    store.replace(enrolled.trust_document, clock.now())
    finish_enrolment(enrolled, settings.state_directory)
    log.info("relay.enrolled", identity=str(enrolled.identity.spiffe_id))
    return enrolled.identity


async def _fetch_trust(
    client: ControlPlaneClient, store: TrustStore, clock: Clock, rng: random.Random, log: Logger
) -> None:
    """Get a trust document anew where the stored one was lost."""
    answer = await ask(client, "GET", SNAPSHOT_PATH, clock=clock, backoff=Backoff(rng), log=log)
    store.replace(str(answer.get("trust_document", "")), clock.now())


def control_plane_tls(settings: ControlPlaneSettings, identity: Identity | None) -> TlsContext:
    """The TLS to the control plane, trusted as the settings say.

    Raises:
        CertificateError: the CA file or the identity is unusable.
    """
    if settings.root_sha256 is not None:
        return pinned_context(settings.root_sha256, identity=identity)
    return client_context(ca_file=settings.ca_file, identity=identity)
