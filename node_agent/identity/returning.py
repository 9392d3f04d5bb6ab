"""Returning: a node whose certificate has expired while it was off, or whose clock says so, comes back by itself.

In this order: the clock is set right, and the certificate is valid after all; the second slot holds a successor that
is; the control plane grants a late renewal (nodes that joined with a token); the machine proves itself anew by its
evidence.
"""

from certs.errors import CertificateError
from node_agent.identity.bootstrap import Bootstrap, BootstrapRefused
from node_agent.identity.evidence import EvidenceUnavailable
from node_agent.identity.late_renewal import LateRenewal
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.identity.succession import Succession
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import EXIT_NO_PERMISSION, StartError
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread
from trunkline.runtime.wall_time import sleep_unless

# As long as the clock is wrong, the evidence missing, or the node revoked or deleted, there is no hurry.
SKEWED_PAUSE_SECONDS = 30.0
NO_EVIDENCE_PAUSE_SECONDS = 60.0
REFUSED_PAUSE_SECONDS = 60.0


def least_pause_seconds(error: Exception) -> float:
    """Return for how long it is of no use to try again: as the control plane said, or as the matter is."""
    if isinstance(error, ControlPlaneRefused):
        for_good = error.permanent and not error.is_about_the_request
        return REFUSED_PAUSE_SECONDS if for_good else error.retry_after_seconds
    if isinstance(error, ClockSkewed):
        return SKEWED_PAUSE_SECONDS
    return NO_EVIDENCE_PAUSE_SECONDS if isinstance(error, EvidenceUnavailable) and error.permanent else 0.0


class Returning:
    """Brings an identity that is valid into force."""

    def __init__(
        self,
        *,
        store: IdentityStore,
        succession: Succession,
        late_renewal: LateRenewal | None,
        bootstrap: Bootstrap,
        backoff: Backoff,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Prepare; without `late_renewal` the machine's evidence is good for any number of times."""
        self._store = store
        self._succession = succession
        self._late_renewal = late_renewal
        self._bootstrap = bootstrap
        self._backoff = backoff
        self._clock = clock
        self._log = log
        self._told = ""

    async def run(self, node: NodeIdentity) -> NodeIdentity:
        """Return an identity that is valid and in force, however long it takes.

        Raises:
            StartError: it will not get one without an operator.
            CertificateError, OSError: the state directory cannot be read or written.
        """
        while True:
            if node.is_valid(self._clock.now()):
                return node
            try:
                return await self.once(node)
            except (ControlPlaneUnreachable, ControlPlaneRefused, EvidenceUnavailable) as error:
                at_least = least_pause_seconds(error)
                delay = self._backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=at_least)
                self._log.warning("identity.not_back_yet", reason=str(error), retry_seconds=round(delay, 1))
                await sleep_unless(lambda: node.is_valid(self._clock.now()), delay, self._clock)

    async def once(self, node: NodeIdentity) -> NodeIdentity:
        """Make one attempt to follow `node`, which is not valid now.

        Raises:
            ControlPlaneUnreachable, ControlPlaneRefused, EvidenceUnavailable: it may be tried again.
            StartError, CertificateError, OSError: as `run`.
        """
        self._tell(node)
        heir = await in_thread(self._succession.waiting, node)
        if heir is None or not heir.is_valid(self._clock.now()):
            heir = await self._renewed_late(node)
        if heir is None:
            return await self._bootstrapped()
        await self._succession.commit()
        self._log.info("identity.back", node_id=heir.node_id, serial=heir.identity.serial)
        return heir

    async def _renewed_late(self, node: NodeIdentity) -> NodeIdentity | None:
        """Return the successor by a late renewal, or None where only evidence is left."""
        if self._late_renewal is None:
            return None
        try:
            return await self._late_renewal.obtain(node)
        except ControlPlaneRefused as error:
            if not error.permanent:
                raise
            self._log.error("late_renewal.refused", reason=str(error), consequence="the join token is tried")
            return None
        except CertificateError as error:
            raise ControlPlaneUnreachable(f"the control plane's answer is unusable: {error}") from None

    async def _bootstrapped(self) -> NodeIdentity:
        try:
            return await self._bootstrap.once()
        except BootstrapRefused as error:
            raise StartError(str(error), EXIT_NO_PERMISSION) from None

    def _tell(self, node: NodeIdentity) -> None:
        if self._told == node.identity.serial:
            return
        self._told = node.identity.serial
        self._log.error(
            "identity.expired",
            node_id=node.node_id,
            serial=node.identity.serial,
            consequence="the node renews late by its key, or bootstraps again by its evidence",
        )
