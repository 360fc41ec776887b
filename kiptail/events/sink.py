"""Where Events go: the API server or, in a dry run, the standard output."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from kiptail.errors import KiptailError
from kiptail.events.event import CHANGING
from kiptail.stdio import OutputClosed, write
from kiptail.text import one_line

__all__ = ["ApiSink", "EventApi", "Printer"]

log = logging.getLogger(__name__)

#: An Event's line is never longer: its text is 1,024 bytes at most. In characters.
_LINE_LIMIT = 4_000


class EventApi(Protocol):
    """What is asked of the API server. Both raise :class:`~kiptail.errors.ApiError`."""

    def create_event(self, namespace: str, body: dict[str, Any]) -> None:
        """Create a core/v1 Event."""

    def patch_event(self, namespace: str, name: str, body: dict[str, Any]) -> None:
        """Change some of its fields."""


class ApiSink:
    """Events to the API server; an :class:`~kiptail.events.writer.EventSink`."""

    def __init__(self, api: EventApi) -> None:
        self._api = api

    def create(self, event: dict[str, Any]) -> None:
        """Create the Event, and log it."""
        self._api.create_event(event["metadata"]["namespace"], event)
        _announce("created", event)

    def update(self, event: dict[str, Any]) -> None:
        """Patch what changes of the Event, and log it."""
        metadata = event["metadata"]
        patch = {field: event.get(field) for field in CHANGING}
        # In each patch: an Event that an earlier version wrote, or that is there by an earlier try, may lack them.
        # They are merged by key, so what others have annotated stays.
        if "annotations" in metadata:
            patch["metadata"] = {"annotations": metadata["annotations"]}
        self._api.patch_event(metadata["namespace"], metadata["name"], patch)
        _announce("updated", event)


class Printer:
    """Prints what would be created or updated, one line each; an :class:`~kiptail.events.writer.EventSink`."""

    def __init__(self, *, as_json: bool, on_closed: Callable[[], None]) -> None:
        """``on_closed`` is called when nothing can be printed any more."""
        self._as_json, self._on_closed = as_json, on_closed
        #: Why not; None while it can be, and when there is nobody left to read it.
        self.error: KiptailError | None = None

    def create(self, event: dict[str, Any]) -> None:
        """Print a new Event."""
        self._print("create", event)

    def update(self, event: dict[str, Any]) -> None:
        """Print an Event whose count or text changed."""
        self._print("update", event)

    def _print(self, operation: str, event: dict[str, Any]) -> None:
        line = json.dumps({"operation": operation, "event": event}) if self._as_json else _sentence(operation, event)
        if self.error is not None:
            return
        try:
            write(line + "\n")
        except OutputClosed:
            self._on_closed()
        except KiptailError as error:
            self.error = error
            self._on_closed()


def _announce(done: str, event: dict[str, Any]) -> None:
    about = event["involvedObject"]
    fields = {"KIPTAIL_EVENT": event["metadata"]["name"], "KIPTAIL_COUNT": event["count"]}
    if about["kind"] == "Pod":
        fields |= {"KIPTAIL_NAMESPACE": about["namespace"], "KIPTAIL_POD": about["name"]}
    log.debug("Event %s: %s: %s (x%d)", done, _called(event), event["message"], event["count"], extra=fields)


def _called(event: dict[str, Any]) -> str:
    """What an Event is about."""
    about = event["involvedObject"]
    return f"{about['namespace']}/{about['name']}" if about["kind"] == "Pod" else f"node/{about['name']}"


def _sentence(operation: str, event: dict[str, Any]) -> str:
    count = f"x{event['count']}"
    return one_line(
        f"{event['lastTimestamp']} {operation} {_called(event)}"
        f" {event['type']} {event['reason']} {count}: {event['message']}",
        _LINE_LIMIT,
    )
