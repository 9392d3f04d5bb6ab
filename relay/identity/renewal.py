"""Renewal of the relay's SVID: in the middle of its life, with a new key, long before the old one ends."""

import asyncio
import random
from collections.abc import Callable

from certs.errors import CertificateError
from certs.identities import Identity
from certs.lifespan import lifespan_of
from relay.control_plane.client import ControlPlaneClient
from relay.identity.late_renewal import LateRenewal
from relay.identity.own_identity import OwnIdentity
from relay.identity.succession import Succession
from relay.metrics import RelayMetrics
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread
from trunkline.runtime.wall_time import sleep_until

RENEW_PATH = "/api/2.0/relays/self/renew"
CONFIRM_PATH = "/api/2.0/relays/self/confirm"
REFUSED_PAUSE_SECONDS = 60.0
"""Before a relay that was deleted asks again."""
SKEWED_PAUSE_SECONDS = 30.0


class Renewal:
    """Renews the identity for ever; what a crash left half done is done first."""

    def __init__(
        self,
        *,
        client: ControlPlaneClient,
        connect: Callable[[Identity | None], ControlPlaneClient],
        identity: OwnIdentity,
        succession: Succession,
        late: LateRenewal,
        metrics: RelayMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare; `connect` makes a client with connections of its own, which presents a successor, or nobody."""
        self._client = client
        self._connect = connect
        self._identity = identity
        self._succession = succession
        self._late = late
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._backoff = Backoff(rng, cap_seconds=300.0)
        self._at_least = 0.0
        self._asked = asyncio.Event()
        self._wanted = False
        identity.subscribe(self._replaced)

    def ask(self) -> None:
        """Renew now: a rotation ends what the certificate stands on."""
        self._wanted = True
        self._asked.set()

    def _replaced(self, identity: Identity) -> None:
        """Take what was asked for as done; who is told too asks again, where the heir stands on the same root."""
        self._wanted = False

    async def run(self) -> None:
        """Sleep until it is time, renew, and begin again; failures are tried again until the end."""
        while True:
            due = lifespan_of(self._identity.current.chain).renew_at(self._rng)
            while not await self._is_due(due):
                await sleep_until(due, self._clock, wake=self._asked)
            while await self._is_due(due) and not await self._renew():
                pause = self._backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=self._at_least)
                await asyncio.sleep(pause)
            self._backoff.reset()

    async def _is_due(self, due: float) -> bool:
        """Whether it is time, or asked for; also where a clock set back makes the certificate one of the future."""
        now, life = self._clock.now(), lifespan_of(self._identity.current.chain)
        return self._wanted or now >= due or not life.has_begun(now) or await self._half_done()

    async def _half_done(self) -> bool:
        try:
            return await in_thread(self._succession.waiting) is not None
        except OSError as error:
            self._log.error("certificate.successor_stays", reason=str(error))
            return False

    async def _renew(self) -> bool:
        self._at_least = 0.0
        try:
            if await in_thread(self._succession.waiting) is None:
                await self._obtain()
            await self._prove_and_commit()
        except (ControlPlaneRefused, ControlPlaneUnreachable, CertificateError, OSError) as error:
            self._failed(error)
            return False
        self._metrics.renewals.of("renewed").count += 1
        self._log.info("certificate.renewed", serial=self._identity.current.serial)
        return True

    async def _obtain(self) -> None:
        """Ask for a successor; where the control plane was away until the identity expired, by its key alone."""
        if not lifespan_of(self._identity.current.chain).covers(self._clock.now()):
            client = self._connect(None)
            try:
                await self._late.obtain(client)
            finally:
                await client.close()
            return
        try:
            csr = await in_thread(self._succession.request)
            answer = await self._client.call("POST", RENEW_PATH, {"csr": csr})
            await in_thread(self._succession.keep, str(answer.get("certificate_chain", "")))
        except ControlPlaneRefused as error:
            if error.is_about_the_request:
                await in_thread(self._succession.forget)
            raise
        except CertificateError:
            self._client.require_clock()
            raise

    async def _prove_and_commit(self) -> None:
        heir = await in_thread(self._succession.waiting)
        if heir is None:
            return
        client = self._connect(heir)
        try:
            await client.call("POST", CONFIRM_PATH, {})
        except ControlPlaneRefused as error:
            if error.permanent:
                await in_thread(self._succession.drop)
            raise
        finally:
            await client.close()
        await self._succession.commit(heir)

    def _failed(self, error: Exception) -> None:
        skewed = isinstance(error, ClockSkewed)
        self._at_least = SKEWED_PAUSE_SECONDS if skewed else 0.0
        if isinstance(error, ControlPlaneRefused) and error.permanent and not error.is_about_the_request:
            self._at_least = REFUSED_PAUSE_SECONDS
        self._metrics.renewals.of("clock_skew" if skewed else "failed").count += 1
        if skewed:
            self._log.error("clock_skew", reason=str(error))
        else:
            self._log.warning("certificate.not_renewed", reason=str(error))
