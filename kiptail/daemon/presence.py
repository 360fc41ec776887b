"""What others see of a run: systemd by its notifications, scrapers by the metrics server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from kiptail.config.settings import Settings
from kiptail.daemon.notify import Notifier, watchdog_interval
from kiptail.daemon.observer import Observer, Unobserved
from kiptail.daemon.readings import Readings
from kiptail.daemon.wiring import open_metrics
from kiptail.text import one_line

__all__ = ["Presence"]

log = logging.getLogger(__name__)


class Presence:
    """Tells of a run from its start to its end; ``stack`` closes it."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._address = settings.metrics_address
        self._stack = stack
        self._notifier = Notifier()
        stack.callback(self._notifier.close)
        self._metrics = open_metrics(settings)
        self._watchdog_s = watchdog_interval()
        self._beat_at = 0.0

    @property
    def observer(self) -> Observer:
        """Gets what happens, for the metrics."""
        return self._metrics

    def waiting(self, reason: str) -> None:
        """Alive, and waiting: as ready as a kiptail whose cluster is away."""
        for message in ("READY=1", "WATCHDOG=1", f"STATUS={one_line(reason)}"):
            self._notifier.tell(message)

    def ready(self) -> None:
        """The run has begun."""
        self._notifier.tell("READY=1")

    def beat(self, now: float) -> None:
        """The journal loop came round, at ``now`` by time.monotonic(); systemd hears of it as often as it asks to."""
        if self._watchdog_s and now >= self._beat_at:
            self._notifier.tell("WATCHDOG=1")
            self._beat_at = now + self._watchdog_s

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._notifier.tell(f"STATUS={text}")

    def stopping(self) -> None:
        """The run is about to end."""
        self._notifier.tell("STOPPING=1")

    def read_from(self, readings: Readings) -> None:
        """These are the values for the metrics."""
        if not isinstance(self._metrics, Unobserved):
            self._metrics.read_from(readings.read)

    def serve(self, obstacles: Callable[[], list[str]]) -> None:
        """Serve the metrics, if that is wanted; ``obstacles``: why the run is not ready."""
        if self._address is None or isinstance(self._metrics, Unobserved):
            return
        from kiptail.daemon.scrapes import MetricsServer  # noqa: PLC0415 - see open_metrics()

        try:
            server = MetricsServer(self._metrics.registry, self._address, obstacles=obstacles)
        except OSError as error:
            # Counting drops matters more than being scraped.
            log.error("no metrics: cannot listen on %s:%d: %s", *self._address, error.strerror)
            return
        self._stack.callback(server.close)
