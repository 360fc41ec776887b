"""Prometheus metrics: a registry of its own, filled when scraped; :mod:`kiptail.daemon.scrapes` serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kiptail import __version__
from kiptail.daemon.observer import Reading

__all__ = ["Metrics"]

#: A request ends after 10 s.
#: Whoever answers in the API server's place may send any three digits: the statuses that have a name are labels.
CODES = frozenset((*(str(status.value) for status in HTTPStatus), "error"))
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What can be scraped; an :class:`~kiptail.daemon.observer.Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._read: Callable[[], Iterable[Reading]] = tuple
        self._events = Counter(
            "kiptail_event_writes",
            "Writes of Events to the API server, by operation and result.",
            ["operation", "result"],
            registry=self.registry,
        )
        self._watches = Counter(
            "kiptail_index_interruptions",
            "Times that the list or watch of pods had to begin again, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._requests = Counter(
            "kiptail_api_requests",
            "Requests to the API server, by verb and HTTP status; error: there was no answer.",
            ["verb", "code"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "kiptail_api_request_duration_seconds",
            "Time to the headers of the API server's answer, or to the error, by verb.",
            ["verb"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)

    def read_from(self, read: Callable[[], Iterable[Reading]]) -> None:
        """``read`` gives the current values of everything that is counted elsewhere."""
        self._read = read

    def event_written(self, operation: str, result: str) -> None:
        """Count one write of an Event."""
        self._events.labels(operation, result).inc()

    def request_made(self, verb: str, code: str, seconds: float) -> None:
        """Count one request to the API server: a :data:`kiptail.kube.api.Observe`."""
        self._requests.labels(verb, code if code in CODES else "other").inc()
        self._latency.labels(verb).observe(seconds)

    def watch_interrupted(self, reason: str) -> None:
        """Count one interruption of the pod index."""
        self._watches.labels(reason).inc()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        families: dict[str, Metric] = {}
        info = GaugeMetricFamily("kiptail_build_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for reading in self._read():
            family = families.get(reading.name)
            if family is None:
                kind = CounterMetricFamily if reading.counter else GaugeMetricFamily
                family = families[reading.name] = kind(reading.name, reading.help, labels=list(reading.labels))
            family.add_metric(list(reading.labels.values()), reading.value)  # type: ignore[attr-defined]  # both have it
        yield from families.values()
