"""Adoption of a trust document: verified, then in force, then everything that it ends is cut, and then it is reported.

The order matters: a document is in force before anything is cut (so that nothing new slips in behind the cut), pushed
to the nodes only then, and durable before it is reported (where the disk is slow or does not take it, it counts all the
same).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from certs.trust import TrustStore, TrustVerdict
from relay.links.link_events import Report
from relay.metrics import RelayMetrics
from relay.trust.credentials import Credential, Refusal
from relay.trust.in_force import TrustInForce
from relay.trust.standing import Standing
from relay.trust.uses import Cut, Uses
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

MAX_REPORTED_CAUSES = 100
"""Revocations and locks that one report tells the cuts of; the sum tells all."""


def at_once(then: Callable[[], None]) -> None:
    """Call `then` now: where documents are stored as they are taken in, or by somebody else."""
    then()


class Links(Protocol):
    """What adoption needs of the links: their credentials, and a way to push a document down; the registry."""

    uses: Uses

    def push_trust(self, document: str) -> None:
        """Send a trust document (JWS) to every listener."""
        ...


class TrustAdoption:
    """Takes trust documents into force."""

    def __init__(
        self,
        *,
        store: TrustStore,
        trust: TrustInForce,
        registry: Links,
        roots_changed: Callable[[], None],
        own_root: Callable[[], str | None],
        metrics: RelayMetrics,
        report: Report,
        clock: Clock,
        log: Logger,
        once_kept: Callable[[Callable[[], None]], None] = at_once,
    ) -> None:
        """Prepare it; `once_kept` calls what it is given once the document in force is on the disk."""
        self._once_kept = once_kept
        self._store = store
        self._trust = trust
        self._registry = registry
        self._roots_changed = roots_changed
        self._own_root = own_root
        self._metrics = metrics
        self._report = report
        self._clock = clock
        self._log = log
        metrics.trust_sequence.set(self.sequence)
        self._tell_roots()

    @property
    def sequence(self) -> int:
        """Number of the document in force."""
        return self._trust.standing.sequence

    @property
    def held(self) -> str | None:
        """The document in force, as a JWS."""
        return self._store.text

    def adopt(self, document: str) -> bool:
        """Verify a document (JWS) and take it into force; False if it is the one in force already.

        Raises:
            CertificateError: it is refused: its form, its signature, or an older number.
        """
        arrived = self._clock.monotonic()
        roots = self._store.keyring.roots
        if not self._store.replace(document, self._clock.now()):
            return False
        standing = self._trust.renew()
        if self._store.keyring.roots != roots:
            self._roots_changed()
            self._tell_roots()
        cut = self.cut()
        self._registry.push_trust(document)
        elapsed = self._clock.monotonic() - arrived
        self._metrics.trust_sequence.set(standing.sequence)
        found = {"cut": len(cut), "cut_milliseconds": int(elapsed * 1000), "cuts": summed(cut)[:MAX_REPORTED_CAUSES]}
        self._once_kept(partial(self.report_standing, **found))
        self._log.info("trust.adopted", sequence=standing.sequence, cut=len(cut))
        return True

    def _tell_roots(self) -> None:
        ends = [root.not_valid_after_utc.timestamp() for root in self._store.keyring.roots]
        self._metrics.trust_root_expiry.set(min(ends, default=0.0))

    def report_standing(self, **found: Any) -> None:
        """Report which document is in force, and which root the relay's own certificate stands on."""
        self._report("trust", sequence=self.sequence, root=self._own_root(), **found)

    def cut(self) -> list[Cut]:
        """End every link and call that the trust in force no longer allows, and return what those were."""
        started = self._clock.monotonic()
        standing: Standing = self._trust.standing
        cut = self._registry.uses.cut(standing.judge)
        for (credential, refusal), count in Counter((one.credential, one.refusal) for one in cut).items():
            self._report_cut(credential, refusal, count)
        if cut:
            self._metrics.cut_seconds.of().observe(self._clock.monotonic() - started)
        return cut

    def _report_cut(self, credential: Credential, refusal: Refusal, count: int) -> None:
        self._metrics.cuts.of(refusal.outcome.metric_label).count += count
        named = {
            "count": count,
            "reason": refusal.message,
            "token_id": credential.token_id,
            "certificate": credential.certificate_serial,
            "node_id": credential.node_id,
            "workspace_id": credential.workspace_id,
            "subject": credential.subject,
        }
        self._report("cut", outcome=refusal.outcome.metric_label, **named)
        self._log.warning("relay.cut", **named)


def summed(cut: Iterable[Cut]) -> list[dict[str, Any]]:
    """What was cut, by the revocation or lock behind it, as a report says it."""
    by_verdict: dict[TrustVerdict, Counter[str]] = {}
    for one in cut:
        if one.refusal.verdict is not None:
            by_verdict.setdefault(one.refusal.verdict, Counter())[one.kind.counted_as] += 1
    return [
        {"cause": "lock" if locked else "revocation", "kind": kind, "id": name, **counts}
        for (locked, kind, name), counts in by_verdict.items()
    ]
