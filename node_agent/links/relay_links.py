"""The links to all relays: one supervisor an address, changed with the list of addresses and with the credentials."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from certs.trust import TrustVerdict
from node_agent.exchanges.control import put_token
from node_agent.identity.node_identity import NodeIdentity
from node_agent.links.attachment import Attachment, Offer
from node_agent.links.relay_supervisor import Dials, RelaySupervisor
from node_agent.metrics import AgentMetrics
from node_agent.settings import LinkSettings
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import Logger

# Without any link, or any address, for so long, the control plane is asked again where the relays are; then seldomer.
LONELY_SECONDS = 30.0
NO_ADDRESS_SECONDS = 1.0
LONGEST_LONELY_SECONDS = 120.0
# All nodes hear of a new relay in the same second; they dial it within so long of each other.
ARRIVAL_SECONDS = 10.0


class RelayLinks:
    """Keeps the links. `run` is cancelled to end them at once; `drain` ends them in order."""

    def __init__(
        self,
        *,
        dialer: Dials,
        offer: Offer,
        take_trust: Callable[[object], None],
        ask_for_token: Callable[[], None],
        urgent: Callable[[], bool],
        settings: LinkSettings,
        ready: Condition,
        metrics: AgentMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._dialer = dialer
        self._offer = offer
        self._take_trust = take_trust
        self._ask_for_token = ask_for_token
        self._urgent = urgent
        self._settings = settings
        self._ready = ready
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._supervisors: dict[str, tuple[RelaySupervisor, asyncio.Task[None]]] = {}
        self._up: set[Attachment] = set()
        self._open: dict[Link, Attachment] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._configured = False

    async def run(self) -> None:
        """Look, while there is no link, for relays elsewhere; until cancelled."""
        asked = 0
        while True:
            seconds = LONELY_SECONDS if self._supervisors else NO_ADDRESS_SECONDS
            await asyncio.sleep(min(seconds * 2**asked, LONGEST_LONELY_SECONDS) * self._rng.uniform(0.8, 1.2))
            if self._up or self._draining:
                asked = 0
            else:
                asked = min(asked + 1, 10)
                self._ask_for_token()

    def relays_changed(self, relays: tuple[str, ...]) -> None:
        """Follow a list that all nodes are given at once: a node that has a link takes its time to dial a new relay."""
        self.configure(relays, spread_seconds=ARRIVAL_SECONDS if self._up else 0.0)

    def configure(self, relays: tuple[str, ...], *, spread_seconds: float = 0.0) -> None:
        """Keep links to these addresses (to those of the settings, if they name any) and to no others.

        Each new address is dialled at a random moment within `spread_seconds`.
        """
        self._configured = True
        wanted = tuple(dict.fromkeys(self._settings.relays or relays))
        if self._draining:
            return
        for url in set(self._supervisors) - set(wanted):
            self._stop(url)
        for url in wanted:
            if url not in self._supervisors:
                self._start(url, self._rng.uniform(0.0, spread_seconds))
        if not wanted:
            self._log.warning("links.no_relays", consequence="the control plane is asked again in a while")

    def identity_changed(self, before: NodeIdentity, node: NodeIdentity) -> None:
        """Follow renewed credentials: a new leaf means new links, a new token is handed over on those that are up."""
        if before.identity.serial != node.identity.serial:
            for supervisor, _ in self._supervisors.values():
                if supervisor.current is None or supervisor.current.serial != node.identity.serial:
                    supervisor.replace()
        elif before.listen_token.reveal() != node.listen_token.reveal():
            for attachment in self._up:
                self._spawn(self._hand_over_token(attachment, node))
        self.configure(node.relays)

    def cut_ended(self) -> list[TrustVerdict]:
        """Cut, at once, the links to relays whose certificate is no good any more; return why each was.

        They are dialled again, and are not spoken to before they have another certificate.
        """
        verdicts = []
        for link, attachment in list(self._open.items()):
            verdict = self._dialer.ended(attachment)
            if verdict is not None:
                self._log.warning(
                    "link.relay_ended", relay=attachment.url, certificate=verdict.id, locked=verdict.locked
                )
                link.abort()
                verdicts.append(verdict)
        return verdicts

    def linked(self) -> list[str]:
        """Return the addresses of the relays that there is a link to."""
        return sorted({attachment.url for attachment in self._up})

    def network_changed(self) -> None:
        """Probe every link, and dial those relays soon that there is none to."""
        self._log.info("links.network_changed", links=len(self._up))
        for supervisor, task in self._supervisors.values():
            if not task.done():
                self._spawn(supervisor.network_changed())

    async def prove(self, heir: NodeIdentity) -> bool:
        """Have one relay take an identity that is not in force yet, those first that are linked; tell whether one did.

        Where the control plane has named no relay at all, there is nothing to prove it at; before the relays are known
        nothing is proved.
        """
        running = [supervisor for supervisor, task in self._supervisors.values() if not task.done()]
        if any(one.current is not None and one.current.serial == heir.identity.serial for one in running):
            return True
        for supervisor in sorted(running, key=lambda one: one.current is None):
            if self._draining:
                return False
            try:
                await supervisor.prove(heir)
            except ChannelError as error:
                self._log.warning("link.successor_not_taken", relay=supervisor.url, reason=str(error))
            else:
                return True
        return self._configured and not self._supervisors

    async def drain(self, timeout_seconds: float) -> None:
        """Take no new streams, let those that are open finish, and close."""
        self._draining = True
        for _, task in self._supervisors.values():
            task.cancel()
        await asyncio.gather(*(link.drain(timeout_seconds) for link in list(self._open)))

    async def close(self) -> None:
        """Cut everything that is left."""
        self._draining = True
        tasks = [*(task for _, task in self._supervisors.values()), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(link.end() for link in list(self._open)))

    # What the supervisors tell

    def attached(self, attachment: Attachment) -> None:
        """A link is up."""
        link = attachment.link
        if link is not None:
            self._open[link] = attachment
            link.closed.add_done_callback(lambda closed: self._open.pop(link, None))
        self._up.add(attachment)
        self._metrics.links.set(len(self._up))
        self._ready.met()
        self.cut_ended()  # what was proved while the relay's certificate was still good, and taken up only now

    def detached(self, attachment: Attachment) -> None:
        """A link is gone, or no longer the one to use."""
        self._up.discard(attachment)
        self._metrics.links.set(len(self._up))
        if not self._up:
            self._ready.unmet("no link to any relay")

    def attempted(self, outcome: str) -> None:
        """Count an attempt."""
        self._metrics.link_attempts.labels(outcome).inc()

    def has_another(self, attachment: Attachment) -> bool:
        """Whether there is a link to the same relay, by what it has shown, by another address."""
        shown = {one.relay_serial for one in self._up if one.url != attachment.url}
        return attachment.relay_serial in shown

    def token_refused(self) -> None:
        """A relay does not take the listen token."""
        self._ask_for_token()

    def _start(self, url: str, delay_seconds: float) -> None:
        supervisor = RelaySupervisor(
            url,
            dialer=self._dialer,
            make_attachment=self._attachment,
            events=self,
            spawn=self._spawn,
            backoff=Backoff(self._rng, cap_seconds=self._settings.backoff_cap_seconds),
            clone_backoff_seconds=self._settings.clone_backoff_seconds,
            drain_seconds=self._settings.drain_seconds,
            urgent=self._urgent,
            clock=self._clock,
            rng=self._rng,
            log=self._log,
        )
        task = asyncio.create_task(_run_later(supervisor, delay_seconds))
        task.add_done_callback(self._supervisor_ended)
        self._supervisors[url] = supervisor, task

    def _supervisor_ended(self, task: asyncio.Task[None]) -> None:
        """Tell of a mistake of our own, which nobody else would: its relay is not dialled any more."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("links.supervisor_failed", reason=repr(error), advice="restart the agent", exc_info=error)

    def _stop(self, url: str) -> None:
        self._log.info("links.relay_removed", relay=url)
        supervisor, task = self._supervisors.pop(url)
        task.cancel()
        if supervisor.current is not None:
            self.detached(supervisor.current)
            self._spawn(supervisor.retire(supervisor.current))

    def _attachment(self, url: str, sequence: int) -> Attachment:
        return Attachment(url, sequence, self._offer, self._take_trust, self._log)

    async def _hand_over_token(self, attachment: Attachment, node: NodeIdentity) -> None:
        """Give a relay the new token on the link; one that does not take it is dialled again with it."""
        supervised = self._supervisors.get(attachment.url)
        if attachment.link is None or supervised is None:
            return
        try:
            status = await put_token(attachment.link, node.listen_token.reveal())
            outcome = "taken" if 200 <= status < 300 else f"refused with status {status}"
        except ChannelError as error:
            outcome = str(error)
        self._log.info("link.token_handed_over", relay=attachment.url, outcome=outcome)
        if outcome != "taken" and supervised[0].current is attachment:
            supervised[0].replace()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _run_later(supervisor: RelaySupervisor, delay_seconds: float) -> None:
    await asyncio.sleep(delay_seconds)
    await supervisor.run()
