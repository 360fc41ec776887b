"""Prometheus metrics and readiness: a registry of its own, filled when scraped, served on loopback unless told else."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import MetricsHandler

from kiptail import __version__
from kiptail.errors import one_line
from kiptail.observed import Reading

__all__ = ["Metrics", "MetricsServer"]

log = logging.getLogger(__name__)

#: A connection that says nothing for so many seconds is closed.
IDLE_TIMEOUT = 30
READY_PATHS = ("/-/ready", "/healthz")
#: A request ends after 10 s.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What can be scraped; an :class:`~kiptail.observed.Observer`."""

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
        """Count one request to the API server: a :data:`kiptail.kubeapi.Observe`."""
        self._requests.labels(verb, code).inc()
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


class _Handler(MetricsHandler):
    """``/metrics``, and ``/-/ready`` (or ``/healthz``) with what is in the way."""

    timeout = IDLE_TIMEOUT
    obstacles: Callable[[], Sequence[str]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/", "/metrics"):
            super().do_GET()
        elif path in READY_PATHS:
            obstacles = self.obstacles()
            text = "".join(f"not ready: {one_line(obstacle)}\n" for obstacle in obstacles) or "ready\n"
            self._answer(503 if obstacles else 200, text)
        else:
            self._answer(404, f"there are /metrics and {READY_PATHS[0]}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class MetricsServer:
    """Serves ``/metrics`` and ``/-/ready`` from a thread."""

    def __init__(
        self, metrics: Metrics, address: tuple[str, int], *, obstacles: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """``obstacles`` gives why kiptail is not ready, in lines. Raises OSError when the address cannot be taken."""
        own = {"registry": metrics.registry, "obstacles": staticmethod(obstacles)}
        handler = type("Handler", (_Handler,), own)
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
