"""A kiptail that kills itself at a chosen point: `python -m tests.crash.victim --die-at POINT --after N -- OPTION…`

The points are around what kiptail promises to do in order: commit what was read, store the names of the Events,
send, note what was sent. Methods are wrapped from outside: nothing in the package knows of it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

from kiptail.cli.main import main as kiptail
from kiptail.events.sink import ApiSink
from kiptail.state.store import Store

__all__ = ["POINTS"]

#: In the order in which a flow passes them.
POINTS = (
    "in-commit",  # counts and position are written, COMMIT is not done
    "committed",  # … and is done
    "in-names",  # the Events' names are written, COMMIT is not done
    "before-send",  # committed and named, the API server knows nothing
    "sent",  # it knows, and kiptail has noted nothing
    "in-note",  # the notes of all that were told are written, COMMIT is not done
    "noted",
)


class Victim:
    """Dies when it has passed ``point`` for the ``after``-th time."""

    def __init__(self, point: str, after: int) -> None:
        self._point, self._left = point, after
        self._lock = threading.Lock()
        #: Which point a COMMIT of this thread is.
        self._here = threading.local()

    def passes(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Wrap everything that is a point."""
        self._wrap(Store, "commit", commit="in-commit", after="committed")
        self._wrap(Store, "save_endpoints", commit="in-names")
        self._wrap(ApiSink, "create", before="before-send", after="sent")
        self._wrap(ApiSink, "update", before="before-send", after="sent")
        self._wrap(Store, "write_notes", commit="in-note", after="noted")
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = traced  # type: ignore[assignment]

    def _statement(self, sql: str) -> None:
        """SQLite begins to run a statement."""
        if sql == "COMMIT":
            self.passes(getattr(self._here, "point", ""))

    def _wrap(self, owner: type, name: str, *, before: str = "", commit: str = "", after: str = "") -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.passes(before)
            self._here.point = commit
            try:
                result = original(*arguments, **options)
            finally:
                self._here.point = ""
            self.passes(after)
            return result

        setattr(owner, name, wrapped)


def main() -> None:
    """Run kiptail with the options after ``--``."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.victim")
    parser.add_argument("--die-at", choices=POINTS, required=True)
    parser.add_argument("--after", type=int, default=1, help="die when it is passed for this time")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    Victim(given.die_at, given.after).watch()
    kiptail(given.arguments)


if __name__ == "__main__":
    sys.exit(main())
