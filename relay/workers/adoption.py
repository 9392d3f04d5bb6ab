"""Adoption of trust documents by a whole relay: adopted is what every worker has in force, and has cut by.

Theory of operation. The parent verifies a document, stores it, and hands it to the workers, which verify it again, take
it into force and cut. Each says what it cut; once all that serve have, or have ended, which cuts as well, the parent
reports one sum. A worker that starts meanwhile begins with the new document, and is not waited for.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from certs.trust import TrustStore
from relay.control_plane.trust_adoption import MAX_REPORTED_CAUSES, at_once
from relay.links.link_events import Report
from relay.metrics import RelayMetrics
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

_CAUSE = ("cause", "kind", "id")


@dataclass(slots=True)
class Adopting:
    """A document that not all have adopted yet."""

    arrived: float
    waits_for: set[int]
    cut: int = 0
    causes: list[dict[str, Any]] = field(default_factory=list)


class SharedAdoption:
    """Takes trust documents into force, at all workers."""

    def __init__(
        self,
        *,
        store: TrustStore,
        serving: Callable[[], Iterable[int]],
        hand_out: Callable[[str], None],
        own_root: Callable[[], str | None],
        metrics: RelayMetrics,
        report: Report,
        clock: Clock,
        log: Logger,
        once_kept: Callable[[Callable[[], None]], None] = at_once,
    ) -> None:
        """Begin with what is stored.

        `serving` names the workers, `hand_out` gives all of them a document, and `once_kept` calls what it is given
        once the document is on the disk.
        """
        self._once_kept = once_kept
        self._store = store
        self._serving = serving
        self._hand_out = hand_out
        self._own_root = own_root
        self._metrics = metrics
        self._report = report
        self._clock = clock
        self._log = log
        self._adopting: dict[int, Adopting] = {}
        self._adopted = self.sequence
        metrics.trust_sequence.set(self.sequence)

    @property
    def sequence(self) -> int:
        """Number of the newest document."""
        document = self._store.current
        return document.sequence if document is not None else 0

    @property
    def held(self) -> str | None:
        """The newest document, as a JWS."""
        return self._store.text

    def adopt(self, document: str) -> bool:
        """Verify a document (JWS) and hand it to the workers; False if it is the one in force already.

        Raises:
            CertificateError: it is refused: its form, its signature, or an older number.
        """
        arrived = self._clock.monotonic()
        if not self._store.replace(document, self._clock.now()):
            return False
        self._adopting[self.sequence] = Adopting(arrived, set(self._serving()))
        self._hand_out(document)
        self._settle()
        return True

    def adopted(self, worker: int, sequence: int, cut: int, cuts: list[dict[str, Any]]) -> None:
        """A worker has a document in force, and has cut so much by it; what was cut for it counts for that document."""
        adopting = self._adopting.get(sequence)
        if adopting is not None and worker in adopting.waits_for:
            adopting.cut += cut
            adopting.causes += cuts
        for number, earlier in self._adopting.items():
            if number <= sequence:
                earlier.waits_for.discard(worker)
        self._settle()

    def ended(self, worker: int) -> None:
        """A worker has ended, and everything that it carried with it."""
        for adopting in self._adopting.values():
            adopting.waits_for.discard(worker)
        self._settle()

    def report_standing(self, **found: Any) -> None:
        """Report which document all have adopted, and which root the relay's own certificate stands on."""
        self._report("trust", sequence=self._adopted, root=self._own_root(), **found)

    def _settle(self) -> None:
        for sequence in sorted(self._adopting):
            adopting = self._adopting[sequence]
            if adopting.waits_for:
                return
            del self._adopting[sequence]
            self._adopted = sequence
            self._metrics.trust_sequence.set(sequence)
            elapsed = self._clock.monotonic() - adopting.arrived
            causes = added_up(adopting.causes)[:MAX_REPORTED_CAUSES]
            found = {"cut": adopting.cut, "cut_milliseconds": int(elapsed * 1000), "cuts": causes}
            self._once_kept(partial(self.report_standing, **found))
            self._log.info("trust.adopted", sequence=sequence, cut=adopting.cut)


def added_up(causes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one item of those that several workers report of the same revocation or lock."""
    found: dict[tuple[Any, ...], Counter[str]] = {}
    for item in causes:
        counts = {key: value for key, value in item.items() if key not in _CAUSE}
        found.setdefault(tuple(item[key] for key in _CAUSE), Counter()).update(counts)
    return [dict(zip(_CAUSE, cause, strict=True)) | dict(counts) for cause, counts in found.items()]
