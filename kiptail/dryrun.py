"""Where a dry run's Events go: the standard output instead of the cluster; and its pods, from a file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from kiptail.errors import SettingsError
from kiptail.ownership import Pod, reduce_pod

__all__ = ["Printer", "let_go", "load_pods"]


class Printer:
    """Prints what would be created or updated, one line each; an :class:`~kiptail.delivery.EventSink`."""

    def __init__(self, stream: TextIO, *, as_json: bool, on_closed: Callable[[], None]) -> None:
        """``on_closed`` is called when nobody reads the stream any more."""
        self._stream, self._as_json, self._on_closed = stream, as_json, on_closed

    def create(self, event: dict[str, Any]) -> None:
        """Print a new Event."""
        self._print("create", event)

    def update(self, event: dict[str, Any]) -> None:
        """Print an Event whose count or text changed."""
        self._print("update", event)

    def _print(self, operation: str, event: dict[str, Any]) -> None:
        line = json.dumps({"operation": operation, "event": event}) if self._as_json else _sentence(operation, event)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError as error:  # nobody reads any more, or the disk behind a redirection is full
            if not isinstance(error, BrokenPipeError):
                log.error("cannot print: %s", error.strerror)
            let_go(self._stream)
            self._on_closed()


log = logging.getLogger(__name__)


def let_go(stream: TextIO) -> None:
    """Nobody reads ``stream`` any more: what is still in it goes nowhere, and no complaint comes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def load_pods(path: Path, *, label: str | None) -> list[Pod]:
    """The pods of a snapshot made by ``kubectl get pods -A -o json``; raises SettingsError."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"--pods: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--pods: {path} is no JSON; make it with `kubectl get pods -A -o json`") from error
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise SettingsError(f"--pods: {path} holds no list of pods; make it with `kubectl get pods -A -o json`")
    return [pod for item in items if isinstance(item, dict) and (pod := reduce_pod(item, label=label))]


def _sentence(operation: str, event: dict[str, Any]) -> str:
    pod = event["involvedObject"]
    count = f"x{event['count']}"
    return (
        f"{event['lastTimestamp']} {operation} {pod['namespace']}/{pod['name']}"
        f" {event['type']} {event['reason']} {count}: {event['message']}"
    )
