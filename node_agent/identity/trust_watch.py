"""Watching over the relays: a trust document that none of them brings is fetched from the control plane itself.

Trust documents come down the links, and a relay that was taken over could keep them back, so that what was revoked goes
on being good here. But a node also speaks to the control plane directly, for secrets, reports and renewals, and every
answer says which document is the newest; where nothing is asked for some minutes, this asks. A document that the relays
have not brought a while after it was named is fetched, and told of; at once where there is no link left to bring it, as
of a node that was revoked: relays cut its links as they take the document, and its shells are to end as well.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.metrics import AgentMetrics
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

TRUST_PATH = "/api/2.0/trust-document"
SHORTEST_SILENCE_SECONDS, LONGEST_SILENCE_SECONDS = 360.0, 420.0
"""After so long without an answer of the control plane it is asked; where secrets are fetched, one comes before."""
SHORTEST_GRACE_SECONDS, LONGEST_GRACE_SECONDS = 30.0, 60.0
"""For so long relays may be late with a document; agents differ, so that a fleet does not come at once."""
STEP_SECONDS = 1.0
"""So often it is looked meanwhile whether there is a link at all."""


class TrustWatch:
    """Compares what the control plane says with the document in force."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        trust: TrustInForce,
        linked_relays: Callable[[], list[str]],
        metrics: AgentMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare; `linked_relays` names those that there is a link to, and that should have brought it."""
        self._control_plane = control_plane
        self._trust = trust
        self._linked_relays = linked_relays
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._newest = 0
        self._confirmed_at = clock.monotonic()
        self._told = asyncio.Event()
        control_plane.on_trust_sequence(self._hear)

    @property
    def age_seconds(self) -> float:
        """Since the control plane last said that the document in force is the newest, or since the start."""
        return self._clock.monotonic() - self._confirmed_at

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._wait_for_word()
            if self._is_behind():
                await self._wait_for_relays()
            if self._is_behind():
                await self._fetch()

    def _hear(self, sequence: int) -> None:
        self._newest = sequence
        if not self._is_behind():
            self._confirmed_at = self._clock.monotonic()
        self._told.set()

    def _is_behind(self) -> bool:
        return self._newest > self._trust.sequence

    async def _wait_for_word(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._rng.uniform(SHORTEST_SILENCE_SECONDS, LONGEST_SILENCE_SECONDS)):
                await self._told.wait()
        if not self._told.is_set():
            await self._ask()
        self._told.clear()

    async def _wait_for_relays(self) -> None:
        """Wait as long as relays may be late, and no longer than there is a link to one, or the document is here."""
        grace_seconds = self._rng.uniform(SHORTEST_GRACE_SECONDS, LONGEST_GRACE_SECONDS)
        await asyncio.sleep(grace_seconds % STEP_SECONDS)
        for _ in range(int(grace_seconds / STEP_SECONDS)):
            if not (self._is_behind() and self._linked_relays()):
                return
            await asyncio.sleep(STEP_SECONDS)

    async def _ask(self) -> object:
        """Return the control plane's document, if it is another than the one in force; its number is heard as well."""
        held = self._trust.sequence
        try:
            answer = await self._control_plane.call(f"{TRUST_PATH}?sequence={max(1, held)}", method="GET")
        except (ControlPlaneRefused, ControlPlaneUnreachable) as error:
            self._log.debug("trust.not_compared", sequence=held, reason=str(error))
            return None
        return answer.get("trust_document")

    async def _fetch(self) -> None:
        held, relays = self._trust.sequence, self._linked_relays()
        self._trust.offer_newer(await self._ask())
        if self._trust.sequence <= held:
            return
        if relays:
            self._log.warning("trust.withheld", sequence=self._trust.sequence, before=held, relays=relays)
        else:
            self._log.info("trust.fetched", sequence=self._trust.sequence, before=held)
        self._metrics.trust_fetched.labels("withheld" if relays else "unlinked").inc()
