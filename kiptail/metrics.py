"""Prometheus metrics: a registry of its own, filled when it is scraped, served on loopback unless told otherwise."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import ThreadingHTTPServer
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import MetricsHandler

from kiptail import __version__

__all__ = ["Metrics", "MetricsServer", "Reading"]

log = logging.getLogger(__name__)

#: A connection that says nothing for so many seconds is closed.
IDLE_TIMEOUT = 30


class Reading(NamedTuple):
    """One value that a part of kiptail keeps anyway."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = {}  # noqa: RUF012 - never changed
    counter: bool = True


class Metrics:
    """What can be scraped."""

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
        self.registry.register(self)

    def read_from(self, read: Callable[[], Iterable[Reading]]) -> None:
        """``read`` gives the current values of everything that is counted elsewhere."""
        self._read = read

    def event_written(self, operation: str, result: str) -> None:
        """Count one write of an Event."""
        self._events.labels(operation, result).inc()

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


class MetricsServer:
    """Serves ``/metrics`` from a thread."""

    def __init__(self, metrics: Metrics, address: tuple[str, int]) -> None:
        """Raises OSError when the address cannot be taken."""
        handler = type("Handler", (MetricsHandler.factory(metrics.registry),), {"timeout": IDLE_TIMEOUT})
        self._server = _server_class(address[0])(address, handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take long while DNS is away, and never use it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server
