"""Renewal of the relay's SVID: in the middle of its life, with a new key, long before the old one ends."""

import asyncio
import random

from certs.chains import CertificateChain, verify_chain
from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.trust import TrustStore
from relay.control_plane_client import ControlPlaneClient, ControlPlaneRefused, ControlPlaneUnreachable
from relay.identity import OwnIdentity
from relay.metrics import RelayMetrics
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

RENEW_PATH = "/api/2.0/relays/self/renew"
LONGEST_SLEEP_SECONDS = 60.0


class Renewal:
    """Renews the identity for ever."""

    def __init__(
        self,
        *,
        client: ControlPlaneClient,
        identity: OwnIdentity,
        store: TrustStore,
        metrics: RelayMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._client = client
        self._identity = identity
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._backoff = Backoff(rng, cap_seconds=300.0)

    async def run(self) -> None:
        """Sleep until it is time, renew, and begin again; failures are tried again until the end."""
        while True:
            await self._sleep_until(renew_at(self._identity.current, self._rng))
            while not await self._renew():  # noqa: ASYNC110 - a delay between attempts, not polling
                await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))
            self._backoff.reset()

    async def _sleep_until(self, moment: float) -> None:
        """Sleep in short pieces, since the wall clock may be set meanwhile."""
        while (left := moment - self._clock.now()) > 0:  # noqa: ASYNC110 - nothing tells of a clock that was set
            await asyncio.sleep(min(left, LONGEST_SLEEP_SECONDS))

    async def _renew(self) -> bool:
        key = generate_key()
        try:
            answer = await self._client.call("POST", RENEW_PATH, {"csr": build_csr(key)})
            chain = CertificateChain.from_pem(str(answer.get("certificate_chain", "")))
            verify_chain(chain, self._store.keyring.roots, self._clock.now())
            self._identity.replace(Identity(key, chain))
        except (ControlPlaneRefused, ControlPlaneUnreachable, CertificateError) as error:
            self._metrics.renewals.of("failed").count += 1
            self._log.warning("certificate.not_renewed", reason=str(error))
            return False
        self._metrics.renewals.of("renewed").count += 1
        self._log.info("certificate.renewed", serial=self._identity.current.serial)
        return True


def renew_at(identity: Identity, rng: random.Random) -> float:
    """When to renew, in seconds since the epoch: between 50 and 60 % of the certificate's life."""
    start, end = identity.chain.not_before, identity.not_after
    return start + (end - start) * rng.uniform(0.5, 0.6)
