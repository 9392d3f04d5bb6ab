"""One page of metrics for a parent and its workers: counters and histograms are sums, gauges each by a rule of its own.

What a worker had counted when it was last asked stays in the sums when it ends, so that no counter ever goes back.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
Numbers = dict[Series, float]

GATHER_SECONDS: Final = 2.0
"""For the answers of workers; one that is late is shown as it was."""
ADDED_UP: Final = frozenset({"counter", "histogram", "summary"})

# Of a gauge, whose values are looked at: the parent's alone, the workers', or everybody's; and what is made of them.
_OWN: Final = "own"
_WORKERS: Final = "workers"
_ALL: Final = "all"
GAUGES: Final[dict[str, tuple[str, Callable[[Iterable[float]], float]]]] = {
    "trunkline_relay_calls_open": (_WORKERS, sum),
    "trunkline_relay_calls_paced": (_WORKERS, sum),
    "trunkline_relay_connections_open": (_WORKERS, sum),
    "trunkline_relay_handshakes_open": (_WORKERS, sum),
    "trunkline_relay_handshakes_waiting": (_WORKERS, sum),
    "trunkline_relay_links_open": (_WORKERS, sum),
    "trunkline_relay_reports_waiting": (_ALL, sum),
    # In force everywhere is what is in force where it is oldest.
    "trunkline_relay_trust_document_sequence": (_WORKERS, min),
    "trunkline_relay_trust_age_seconds": (_WORKERS, max),
    "trunkline_relay_certificate_expiry_timestamp_seconds": (_WORKERS, min),
    "trunkline_relay_serving_certificate_expiry_timestamp_seconds": (_WORKERS, min),
    "trunkline_relay_held_bytes": (_WORKERS, sum),
    "trunkline_relay_streams_open": (_WORKERS, sum),
    "trunkline_relay_tasks": (_ALL, sum),
    "trunkline_relay_unkept_files": (_OWN, max),
    "trunkline_relay_trust_root_expiry_timestamp_seconds": (_WORKERS, min),
    "trunkline_relay_memory_limit_bytes": (_WORKERS, max),
    "trunkline_relay_memory_shedding": (_WORKERS, max),
    "trunkline_relay_trust_feed_last_heard_timestamp_seconds": (_OWN, max),
    "trunkline_relay_clock_offset_seconds": (_OWN, max),
    "trunkline_relay_workers_up": (_OWN, max),
    "process_virtual_memory_bytes": (_ALL, sum),
    "process_resident_memory_bytes": (_ALL, sum),
    # Beside `process_max_fds`, which each process has for itself.
    "process_open_fds": (_ALL, max),
    "trunkline_python_allocated_blocks": (_ALL, sum),
    "process_max_fds": (_ALL, min),
    "process_start_time_seconds": (_OWN, max),
    "python_info": (_OWN, max),
    "trunkline_build_info": (_OWN, max),
}


def families_of(registry: CollectorRegistry) -> list[list[Any]]:
    """Return all that a registry counts, as a message carries it."""
    return [
        [
            family.name,
            family.type,
            family.documentation,
            [[sample.name, list(sample.labels.items()), sample.value] for sample in family.samples],
        ]
        for family in registry.collect()
    ]


class MergedMetrics(Collector):
    """What the parent's page shows."""

    def __init__(self, own: CollectorRegistry) -> None:
        """Begin with the parent's own registry, and no worker."""
        self._own = own
        self._workers: dict[int, list[list[Any]]] = {}
        self._past: Numbers = {}
        self._ask: Callable[[int], Iterable[int]] = lambda question: ()
        self._questions = itertools.count(1)
        self._waits_for: dict[int, set[int]] = {}
        self._answered: dict[int, asyncio.Event] = {}

    def registry(self) -> CollectorRegistry:
        """Return a registry that shows the page."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def subscribe(self, ask: Callable[[int], Iterable[int]]) -> None:
        """Call `ask` with the number of a question to ask all workers what they count; it names those asked."""
        self._ask = ask

    async def gather(self) -> None:
        """Ask all workers, and wait for their answers."""
        question = next(self._questions)
        self._answered[question] = asyncio.Event()
        self._waits_for[question] = set(self._ask(question))
        try:
            if self._waits_for[question]:
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._answered[question].wait()
        except TimeoutError:
            return
        finally:
            del self._answered[question], self._waits_for[question]

    def take(self, worker: int, question: int, families: list[list[Any]]) -> None:
        """Take what a worker counts now."""
        self._workers[worker] = families
        self._settle(worker, question)

    def ended(self, worker: int) -> None:
        """Keep what a worker that has ended had counted."""
        for question in list(self._waits_for):
            self._settle(worker, question)
        for _, kind, _, samples in self._workers.pop(worker, []):
            if kind in ADDED_UP:
                _add(self._past, _numbers(samples))

    def _settle(self, worker: int, question: int) -> None:
        waits_for = self._waits_for.get(question)
        if waits_for is not None:
            waits_for.discard(worker)
            if not waits_for:
                self._answered[question].set()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once."""
        everybody = [families_of(self._own), *self._workers.values()]
        described = {family[0]: family for families in reversed(everybody) for family in families}
        for name, kind, text, _ in described.values():
            metric = Metric(name, text, kind)
            for (sample, labels), value in self._merged(name, kind, everybody).items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def _merged(self, name: str, kind: str, everybody: list[list[list[Any]]]) -> Numbers:
        parts = [_samples(families, name) for families in everybody]
        if kind in ADDED_UP:
            total: Numbers = {series: value for series, value in self._past.items() if _is_of(series[0], name)}
            for part in parts:
                _add(total, part)
            return _in_order(total)
        source, make = GAUGES.get(name, (_ALL, max))
        chosen = parts[:1] if source == _OWN else parts[1:] if source == _WORKERS else parts
        if not any(chosen):
            chosen = parts[:1]
        found: dict[Series, list[float]] = {}
        for part in chosen:
            for series, value in part.items():
                found.setdefault(series, []).append(value)
        return {series: make(values) for series, values in found.items()}


def _samples(families: list[list[Any]], name: str) -> Numbers:
    return next((_numbers(samples) for found, _, _, samples in families if found == name), {})


def _numbers(samples: list[list[Any]]) -> Numbers:
    return {(name, tuple((key, value) for key, value in labels)): value for name, labels, value in samples}


def _add(total: Numbers, part: Numbers) -> None:
    for series, value in part.items():
        total[series] = total.get(series, 0.0) + value


_SUFFIXES: Final = ("", "_total", "_bucket", "_sum", "_count", "_created")


def _is_of(sample: str, name: str) -> bool:
    return any(sample == name + suffix for suffix in _SUFFIXES)


def _in_order(numbers: Numbers) -> Numbers:
    """Put what belongs to the same labels side by side, and buckets by their bounds, as the exposition wants them."""

    def place(series: Series) -> tuple[Labels, bool, float]:
        labels = series[1]
        bound = dict(labels).get("le")
        others = tuple(label for label in labels if label[0] != "le")
        return others, bound is None, float(bound) if bound is not None else 0.0

    return {series: numbers[series] for series in sorted(numbers, key=place)}
