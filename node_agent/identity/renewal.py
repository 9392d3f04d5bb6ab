"""Renewal: a listen token, and a certificate with a new key, in the middle of their lives."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from certs.chains import verify_chain
from certs.errors import CertificateError
from certs.identities import build_csr
from certs.keyfiles import load_or_create_key
from node_agent.identity.control_plane import ControlPlane, ControlPlaneRefused, ControlPlaneUnreachable
from node_agent.identity.credentials import Credentials, certificate_span, token_span
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.metrics import AgentMetrics
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

RENEW_PATH = "/api/2.0/nodes/self/renew"
LISTEN_TOKEN_PATH = "/api/2.0/nodes/self/listen-token"  # noqa: S105 - a path
KEY_FILE = "renewal-key.pem"
LONGEST_SLEEP_SECONDS = 60.0
BACKOFF_CAP_SECONDS = 300.0
SHORTEST_INTERVAL_SECONDS = 1.0


class Renewal:
    """Renews the node's credentials for ever. Where both are due, the certificate goes first: a token comes along."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        credentials: Credentials,
        trust: TrustInForce,
        bootstrap: Callable[[], Awaitable[NodeIdentity]],
        directory: Path,
        metrics: AgentMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare.

        Args:
            control_plane: what is asked.
            credentials: what is renewed.
            trust: checks new chains, and takes documents that come with them.
            bootstrap: gets a new identity by evidence, where the certificate has expired.
            directory: where the key of a renewal under way is kept.
            metrics: counts.
            clock: the time.
            rng: randomness of the moments.
            log: the log.
        """
        self._control_plane = control_plane
        self._credentials = credentials
        self._trust = trust
        self._bootstrap = bootstrap
        self._key_path = directory / KEY_FILE
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._backoff = Backoff(rng, cap_seconds=BACKOFF_CAP_SECONDS)
        self._asked = asyncio.Event()
        self._renewed_at = -SHORTEST_INTERVAL_SECONDS

    def ask_for_token(self) -> None:
        """Renew the listen token soon: a relay refused it, or there is no relay to go to. Not twice in a while."""
        if self._clock.monotonic() - self._renewed_at >= SHORTEST_INTERVAL_SECONDS:
            self._asked.set()

    async def run(self) -> None:
        """Sleep until something is due, renew it, and begin again."""
        while True:
            node, now = self._credentials.current, self._clock.now()
            certificate_at = certificate_span(node).renew_at(self._rng)
            token_at = token_span(node.listen_token, now).renew_at(self._rng)
            await self._sleep_until(min(certificate_at, token_at))
            renew = self._renew_certificate if self._clock.now() >= certificate_at else self._renew_token
            while not await self._attempt(renew):  # noqa: ASYNC110 - a retry, not a condition to wait for
                await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))
            self._backoff.reset()

    async def _sleep_until(self, moment: float) -> None:
        """Sleep in short pieces, since the wall clock may be set meanwhile; a demand for a token ends it."""
        while (left := moment - self._clock.now()) > 0 and not self._asked.is_set():
            try:
                async with asyncio.timeout(min(left, LONGEST_SLEEP_SECONDS)):
                    await self._asked.wait()
            except TimeoutError:
                continue
        self._asked.clear()

    async def _attempt(self, renew: Callable[[NodeIdentity], Awaitable[None]]) -> bool:
        node = self._credentials.current
        credential = "certificate" if renew == self._renew_certificate else "listen_token"
        try:
            if node.is_valid(self._clock.now()):
                await renew(node)
            else:
                credential = "identity"
                await self._start_over(node)
        except (ControlPlaneRefused, ControlPlaneUnreachable, CertificateError, OSError) as error:
            self._metrics.renewals.labels(credential, "failed").inc()
            self._log.warning("renewal.failed", credential_kind=credential, reason=str(error))
            return False
        self._renewed_at = self._clock.monotonic()
        self._metrics.renewals.labels(credential, "renewed").inc()
        self._log.info("renewal.done", credential_kind=credential, serial=self._credentials.current.identity.serial)
        return True

    async def _renew_token(self, node: NodeIdentity) -> None:
        answer = await self._control_plane.call(LISTEN_TOKEN_PATH, {}, identity=node.identity)
        self._credentials.replace(node.renewed(answer))

    async def _renew_certificate(self, node: NodeIdentity) -> None:
        """Ask with a key that is on the disk first: a lost answer, or a crash, is followed by the same question."""
        key = load_or_create_key(self._key_path)
        answer = await self._control_plane.call(RENEW_PATH, {"csr": build_csr(key)}, identity=node.identity)
        renewed = node.renewed(answer, key)
        self._trust.offer(answer.get("trust_document"))
        verify_chain(renewed.identity.chain, self._trust.store.keyring.roots, self._clock.now())
        self._credentials.replace(renewed)
        self._key_path.unlink(missing_ok=True)

    async def _start_over(self, node: NodeIdentity) -> None:
        self._log.error(
            "identity.expired",
            node_id=node.node_id,
            serial=node.identity.serial,
            consequence="the node bootstraps again, by its evidence",
        )
        self._credentials.adopt(await self._bootstrap())
