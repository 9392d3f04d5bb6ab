"""Renewal: leaf and listen token as a pair in the middle of their life, and whatever else keeps an identity good.

Theory of operation. One loop waits until there is something to do, and then looks afresh, before each attempt, at what
that is (`_next_work`): the state on the disk says it all, so a restart goes on where a crash came in between. Failures
are tried again for ever, with growing pauses. A wall clock that jumps is not believed: before anything is made of it,
the control plane is asked for the time, at a random moment within a minute, so that a fleet whose clocks were all set
wrong does not come at once. Nor does one that slept, or was off, when it was to renew: each agent of it draws another
moment, soon, but in a small part of the time that is left.
"""

import asyncio
import random
from enum import Enum

from certs.errors import CertificateError
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.credentials import Credentials, pair_ends_at, renew_pair_at
from node_agent.identity.evidence import EvidenceUnavailable
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.returning import Returning, least_pause_seconds
from node_agent.identity.succession import NotProved, Prove, Succession
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.metrics import AgentMetrics
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread
from trunkline.runtime.wall_time import Woken, sleep_until

LISTEN_TOKEN_PATH = "/api/2.0/nodes/self/listen-token"  # noqa: S105 - a path
TRUST_PATH = "/api/2.0/trust-document"
BACKOFF_CAP_SECONDS = 300.0
SHORTEST_INTERVAL_SECONDS = 1.0
SPREAD_SECONDS = 60.0
"""Within so long after a jump of the clock the control plane is asked for the time."""
MISSED_SECONDS = 60.0
"""A renewal that is due since longer than that was slept through, unless it has failed."""
CATCH_UP_SECONDS, CATCH_UP_PART = 900.0, 0.25
"""Within so long, or that part of what is left of the pair's life, one that was slept through is caught up on."""

EXPECTED = (ControlPlaneRefused, ControlPlaneUnreachable, EvidenceUnavailable, NotProved, CertificateError, OSError)


class Work(Enum):
    """What there may be to do; the value is the label of the metric."""

    RETURN = "identity"
    CONFIRM = "confirmation"
    SUCCEED = "successor"
    TOKEN = "listen_token"  # noqa: S105 - a label
    RENEW = "pair"


class Renewal:
    """Keeps the node's credentials good for ever."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        credentials: Credentials,
        trust: TrustInForce,
        succession: Succession,
        returning: Returning,
        prove: Prove,
        metrics: AgentMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare.

        Args:
            control_plane: what is asked.
            credentials: what is renewed.
            trust: takes the documents that come along.
            succession: the way from a request to an identity in force.
            returning: the way back where the certificate has expired.
            prove: makes a link with a successor.
            metrics: counts.
            clock: the time.
            rng: randomness of the moments.
            log: the log.
        """
        self._control_plane = control_plane
        self._credentials = credentials
        self._trust = trust
        self._succession = succession
        self._returning = returning
        self._prove = prove
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._backoff = Backoff(rng, cap_seconds=BACKOFF_CAP_SECONDS)
        self._asked = asyncio.Event()
        self._token_wanted = False
        self._certificate_wanted = False
        self._renewed_at = -SHORTEST_INTERVAL_SECONDS
        self._due = 0.0
        self._at_least = 0.0

    def ask_for_token(self) -> None:
        """Renew the listen token soon: a relay refused it, a rotation ends its key, or there is no relay to go to."""
        self._token_wanted = True
        self._asked.set()

    def ask_for_certificate(self) -> None:
        """Renew the pair soon, before its time: a rotation ends what the certificate stands on."""
        self._certificate_wanted = True
        self._asked.set()

    async def run(self) -> None:
        """Wait until something is due, do it, and begin again.

        Raises:
            StartError: the certificate has expired, and the control plane will not give another.
        """
        while True:
            work: Work | None = await self._wait_for_work()
            while work is not None and not await self._attempt(work):
                pause = self._backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=self._at_least)
                await asyncio.sleep(pause)
                work = await self._next_work()
            self._backoff.reset()

    async def _wait_for_work(self) -> Work:
        self._due = self._unless_missed(renew_pair_at(self._credentials.current, self._clock.now()))
        while (work := await self._next_work()) is None:
            if await sleep_until(self._due, self._clock, wake=self._asked) is Woken.JUMPED:
                await self._look_at_the_clock()
            self._due = self._unless_missed(self._due)
        return work

    def _unless_missed(self, due: float) -> float:
        """Return the moment, or another soon if it was slept through: the machine's neighbours may wake with it."""
        node, now = self._credentials.current, self._clock.now()
        if now - due < MISSED_SECONDS:
            return due
        left = max(0.0, pair_ends_at(node, now) - now)
        return now + self._rng.uniform(0.0, min(CATCH_UP_SECONDS, left * CATCH_UP_PART))

    async def _next_work(self) -> Work | None:
        """Say what is to be done first; what is on the disk decides."""
        node, now = self._credentials.current, self._clock.now()
        if not node.is_valid(now):
            return Work.RETURN
        if self._token_wanted:
            return Work.TOKEN
        if await self._has_successor(node):
            return Work.SUCCEED
        if not node.confirmed:
            return Work.CONFIRM
        return Work.RENEW if self._certificate_wanted or now >= self._due else None

    async def _has_successor(self, node: NodeIdentity) -> bool:
        try:
            return await in_thread(self._succession.waiting, node) is not None
        except OSError as error:
            self._log.error("identity.successor_stays", reason=str(error))
            return False

    async def _attempt(self, work: Work) -> bool:
        self._at_least = 0.0
        try:
            await self._do(work)
        except EXPECTED as error:
            await self._failed(work, error)
            return False
        self._renewed_at = self._clock.monotonic()
        self._metrics.renewals.labels(work.value, "done").inc()
        self._log.info("renewal.done", work=work.value, serial=self._credentials.current.identity.serial)
        self._complain()
        return True

    async def _failed(self, work: Work, error: Exception) -> None:
        skewed = isinstance(error, ClockSkewed)
        self._at_least = least_pause_seconds(error)
        self._metrics.renewals.labels(work.value, "clock_skew" if skewed else "failed").inc()
        told = self._log.error if skewed else self._log.warning
        told("clock_skew" if skewed else "renewal.failed", work=work.value, reason=str(error))
        if work is Work.TOKEN and (self._certificate_wanted or await self._has_successor(self._credentials.current)):
            # A pair brings a token of its own: it is tried first, and that the token was refused says nothing of it.
            self._token_wanted, self._at_least = False, 0.0

    async def _do(self, work: Work) -> None:
        match work:
            case Work.RETURN:
                self._adopt(await self._returning.once(self._credentials.current))
            case Work.TOKEN:
                await self._renew_token()
            case Work.SUCCEED:
                await self._succeed()
            case Work.CONFIRM:
                await self._confirm()
            case Work.RENEW:
                await self._succession.obtain(self._credentials.current)

    async def _succeed(self) -> None:
        heir = await in_thread(self._succession.waiting, self._credentials.current)
        if heir is not None:
            await self._succession.prove(heir, self._prove)
            await self._succession.commit()
            self._adopt(heir)

    def _adopt(self, heir: NodeIdentity) -> None:
        self._certificate_wanted = False  # who is told of the heir asks again, where it stands on the same root
        self._credentials.adopt(heir)

    async def _confirm(self) -> None:
        node = self._credentials.current
        try:
            self._credentials.adopt(await self._succession.confirm(node))
        except ControlPlaneRefused as error:
            if not error.permanent:
                raise
            self._log.warning("renewal.confirmation_refused", reason=str(error), consequence="it is renewed once more")
            await self._succession.obtain(node)

    async def _renew_token(self) -> None:
        """Renew it, not at once after something else was: several relays refuse one token, but none is left asking."""
        await asyncio.sleep(max(0.0, self._renewed_at + SHORTEST_INTERVAL_SECONDS - self._clock.monotonic()))
        node = self._credentials.current
        answer = await self._control_plane.call(LISTEN_TOKEN_PATH, {}, identity=node.identity)
        self._trust.offer_newer(answer.get("trust_document"))
        await self._credentials.replace(node.with_token(answer))
        self._token_wanted = False

    async def _look_at_the_clock(self) -> None:
        """Find out what the time is after a jump; the trust document is at hand for that."""
        await asyncio.sleep(self._rng.uniform(0.0, SPREAD_SECONDS))
        try:
            answer = await self._control_plane.call(TRUST_PATH, method="GET")
        except ClockSkewed as error:
            self._log.error("clock_skew", reason=str(error))
        except (ControlPlaneRefused, ControlPlaneUnreachable) as error:
            self._log.warning("clock.jumped", reason=f"the time could not be compared: {error}")
        else:
            self._trust.offer(answer.get("trust_document"))
            self._complain()

    def _complain(self) -> None:
        try:
            self._control_plane.require_clock()
        except ClockSkewed as error:
            self._log.error("clock_skew", reason=str(error))
