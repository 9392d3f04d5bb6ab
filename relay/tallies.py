"""Numbers that the data path counts with one addition, and the collectors that show them to Prometheus.

`prometheus_client`'s own counters take a lock and cost about a microsecond each, a tenth of a small call. A process
with one event loop needs no lock, so the data path adds to plain integers, and they are read when somebody asks.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS_BOUNDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    600.0,
)


class Tally:
    """One number; the data path writes `tally.count += 1`."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Tallies(Collector):
    """The tallies of one metric, one for each combination of label values, made when first asked for.

    The caller keeps the tallies that it uses often; `of` is for making them, and for the slow paths.
    """

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, gauge: bool = False, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._gauge = gauge
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def of(self, *values: str) -> Tally:
        """Return the tally for these label values, in the order of the labels."""
        tally = self._tallies.get(values)
        if tally is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}")
            tally = self._tallies[values] = Tally()
        return tally

    def describe(self) -> Iterable[Metric]:
        """Name the metric without its numbers, for the registry's check of duplicates."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric with what was counted."""
        family = self._family()
        for values, tally in list(self._tallies.items()):
            family.add_metric(values, tally.count)
        yield family

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = GaugeMetricFamily if self._gauge else CounterMetricFamily
        return kind(self._name, self._help, labels=self._labels)


class Distribution:
    """How often a value fell between which bounds, without labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS_BOUNDS) -> None:
        self._bounds: tuple[float, ...] = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        at = 0
        for bound in self._bounds:  # most values are small, so that looking from below finds theirs soonest
            if value <= bound:
                break
            at += 1
        self.counts[at] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts by upper bound, as Prometheus wants them."""
        result: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*map(repr, self._bounds), "+Inf"), self.counts, strict=True):
            running += count
            result.append((bound, running))
        return result


class Distributions(Collector):
    """The distributions of one metric: one for each value of its label, or a single one if it has none."""

    def __init__(
        self,
        name: str,
        help_text: str,
        label: str | None = None,
        *,
        registry: CollectorRegistry,
        bounds: Sequence[float] = SECONDS_BOUNDS,
    ) -> None:
        self._name = name
        self._help = help_text
        self._labels = [label] if label is not None else []
        self._bounds = bounds
        self._by_values: dict[tuple[str, ...], Distribution] = {}
        registry.register(self)

    def of(self, *values: str) -> Distribution:
        """Return the distribution for this value of the label."""
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}")
        return self._by_values.setdefault(values, Distribution(self._bounds))

    def describe(self) -> Iterable[Metric]:
        """Name the metric without its numbers."""
        return [HistogramMetricFamily(self._name, self._help, labels=self._labels)]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric with what was observed."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, distribution in list(self._by_values.items()):
            family.add_metric(values, buckets=distribution.buckets(), sum_value=distribution.total)
        yield family
