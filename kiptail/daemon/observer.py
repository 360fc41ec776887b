"""What parts of kiptail tell of themselves, and to whom; ``metrics`` makes Prometheus metrics of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Observer", "Reading", "Unobserved"]


class Reading(NamedTuple):
    """One value that a part of kiptail keeps anyway."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = {}  # noqa: RUF012 - never changed
    counter: bool = True


class Observer(Protocol):
    """Gets what happens, from any thread."""

    def event_written(self, operation: str, result: str) -> None:
        """One write of an Event."""

    def request_made(self, verb: str, code: str, seconds: float) -> None:
        """One request to the API server: a :data:`kiptail.kube.api.Observe`."""

    def watch_interrupted(self, reason: str) -> None:
        """One interruption of the pod index."""


class Unobserved:
    """The :class:`Observer` of a run that nobody can ask for metrics."""

    def event_written(self, operation: str, result: str) -> None: ...
    def request_made(self, verb: str, code: str, seconds: float) -> None: ...
    def watch_interrupted(self, reason: str) -> None: ...
