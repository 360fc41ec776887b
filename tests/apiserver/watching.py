"""One watch: the stream of lines, bookmarks, its end, and what tests do to it."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.apiserver.answers import ApiError, dump, expired, invalid
from tests.apiserver.faults import Disturbance, error_line
from tests.apiserver.listing import Match, number, selector
from tests.apiserver.record import Request
from tests.apiserver.selection import truth
from tests.apiserver.store import Change, Collection, Expired, Feed, Stored

__all__ = ["Stream", "Watch"]

_MOST_LINES_A_CHUNK = 64


class Stream(Protocol):
    """What a watch needs of the connection that carries it."""

    def begin(self) -> None:
        """Send the head of the answer."""

    def send(self, data: bytes) -> None:
        """Send one chunk."""

    def end(self) -> None:
        """Send the end of the stream."""

    def drop(self, *, reset: bool) -> None:
        """Close the connection, or reset it, without an end."""

    def fileno(self) -> int:
        """To poll for a client that went away."""

    def gone(self) -> bool:
        """Whether the client went away (called when the descriptor is readable)."""

    def hold(self) -> bool:
        """Wait while the server is frozen; False when it stops."""


class Watch:
    """A watch of one collection. `request` says who asked and what was sent, `lines` how many lines."""

    def __init__(
        self,
        collection: Collection,
        namespace: str,
        request: Request,
        *,
        bookmark_period: float,
        watch_list: str,
    ) -> None:
        self.request = request
        self.lines = 0
        self._collection = collection
        self._namespace = namespace
        self._period = bookmark_period
        query = request.query
        self._matches: Match | None = selector(collection.kind, namespace, query)
        self._bookmarks = truth(query, "allowWatchBookmarks")
        timeout = number(query["timeoutSeconds"], "timeoutSeconds") if query.get("timeoutSeconds") else 0
        self._timeout = timeout or None
        text = query.get("resourceVersion", "")
        self._since = number(text, "resourceVersion") if text else 0
        self._list_first = self._check_initial_events(query, watch_list)
        self._feed: Feed | None = None
        self._planned: list[tuple[int, Disturbance]] = []
        self._silent = False
        self._lock = threading.Lock()

    def _check_initial_events(self, query: Mapping[str, str], watch_list: str) -> bool:
        if watch_list == "ignore":
            return False
        asked, match = "sendInitialEvents" in query, query.get("resourceVersionMatch")
        field, problem = "resourceVersionMatch", ""
        if asked and watch_list == "reject":
            field = "sendInitialEvents"
            problem = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        elif asked and match != "NotOlderThan":
            problem = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        elif match and not asked:
            problem = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        if problem:
            raise invalid("ListOptions.meta.k8s.io", "", [("FieldValueForbidden", f"Forbidden: {problem}", field)])
        return truth(query, "sendInitialEvents")

    def plan(self, disturbance: Disturbance, after_lines: int) -> None:
        """Disturb this watch once it has sent so many lines."""
        self._planned.append((after_lines, disturbance))

    def disturb(self, disturbance: Disturbance) -> None:
        """Disturb this watch after the changes so far (from any thread)."""
        with self._lock:
            if self._feed is not None:
                self._collection.order(self._feed, disturbance)

    def ring(self) -> None:
        """Wake the watch: the server stops."""
        with self._lock:
            if self._feed is not None:
                self._feed.ring()

    def run(self, stream: Stream, started: Callable[[Watch], None]) -> None:
        """Send until the end. `started` is called when changes are being collected, before the first line."""
        explicit = self._since if self._since and not self._list_first else None
        query = self.request.query
        from_now = "sendInitialEvents" in query and not truth(query, "sendInitialEvents")
        try:
            feed, objects, version = self._collection.subscribe(
                since=explicit, initial=explicit is None and not from_now
            )
        except Expired as error:
            stream.begin()
            problem = expired(f"too old resource version: {self._since} ({error.oldest})")
            self._send(stream, error_line(problem))
            stream.end()
            return
        self._feed = feed
        try:
            started(self)
            stream.begin()
            if self._run(stream, feed, objects, version):
                stream.end()
        finally:
            with self._lock:
                self._feed = None
            self._collection.unsubscribe(feed)

    def _run(self, stream: Stream, feed: Feed, objects: list[Stored], version: int) -> bool:
        """True for a clean end."""
        began = time.monotonic()
        deadline = None if self._timeout is None else began + self._timeout
        bookmark = self._first_bookmark(began, deadline)
        if not self._send_lines(stream, [_line("ADDED", self._collection.whole(s)) for s in self._chosen(objects)]):
            return False
        if self._list_first and self._bookmarks:
            line = self._bookmark(version, {"k8s.io/initial-events-end": "true"})
            if not self._send_lines(stream, [line]):
                return False
        poller = select.poll()
        poller.register(feed.wake, select.POLLIN)
        poller.register(stream.fileno(), select.POLLIN)
        while stream.hold():
            ended = self._send_changes(stream, feed)
            if ended is not None:
                return ended
            now = time.monotonic()
            if self._silent:
                deadline = bookmark = None  # A dead link shows no end either.
            if deadline is not None and now >= deadline:
                return True
            if bookmark is not None and now >= bookmark:
                bookmark = now + self._period
                progress = self._collection.progress(feed)
                # A watch from the future stays silent until that version has come.
                if progress >= self._since and not self._send_lines(stream, [self._bookmark(progress, {})]):
                    return False
            times = [at for at in (deadline, bookmark) if at is not None]
            wait = None if not times else max(0.0, min(times) - time.monotonic()) * 1000 + 1
            if stream.fileno() in dict(poller.poll(wait)) and stream.gone():
                return False
        return False

    def _send_changes(self, stream: Stream, feed: Feed) -> bool | None:
        """Send what has come; None to go on, else as `_run`."""
        feed.silence()
        lines: list[bytes] = []
        while feed.items:
            item = feed.items.popleft()
            line = self._translate(item) if isinstance(item, Change) else None
            if line:
                lines.append(line)
            if len(lines) >= _MOST_LINES_A_CHUNK or not feed.items or isinstance(item, Disturbance):
                if not self._send_lines(stream, lines):
                    return False
                lines = []
            if isinstance(item, Disturbance):
                ended = self._apply(stream, item, self._bookmark(self._since, {}))
                if ended is not None:
                    return ended
        if self._planned:
            return self._next_planned(stream, self._bookmark(self._since, {}))
        return None

    def _first_bookmark(self, began: float, deadline: float | None) -> float | None:
        """Every period, and once two seconds before a deadline, as the real watch cache does."""
        if not self._bookmarks:
            return None
        first = began + self._period
        if deadline is not None and deadline - 2 > began:
            first = min(first, deadline - 2)
        return first

    def _bookmark(self, version: int, annotations: Mapping[str, str]) -> bytes:
        kind = self._collection.kind
        metadata: dict[str, object] = {"resourceVersion": str(version)}
        if annotations:
            metadata["annotations"] = dict(annotations)
        blank = {"kind": kind.kind, "apiVersion": kind.group_version, "metadata": metadata, **kind.blank}
        return _line("BOOKMARK", dump(blank))

    def _chosen(self, objects: list[Stored]) -> list[Stored]:
        return objects if self._matches is None else [stored for stored in objects if self._matches(stored)]

    def _translate(self, change: Change) -> bytes | None:
        """A change as this selector sees it: coming in is ADDED, leaving is DELETED with the old object."""
        if change.version <= self._since:
            return None
        matches = self._matches
        before = change.old is not None and (matches is None or matches(change.old))
        after = change.new is not None and (matches is None or matches(change.new))
        if after:
            assert change.new is not None
            return _line("MODIFIED" if before else "ADDED", self._collection.whole(change.new))
        if not before:
            return None
        assert change.old is not None
        last = change.last or self._collection.at(change.old, change.version)
        return _line("DELETED", self._collection.whole(last))

    def _apply(self, stream: Stream, order: Disturbance, line: bytes) -> bool | None:
        """`line` is what a cut goes through."""
        if order is Disturbance.SILENCE:
            self._silent = True
        elif order is Disturbance.GARBAGE:
            self._send(stream, b'{"type":"MODIFIED","object":{]garbage\n')
        elif order is Disturbance.CUT:
            self._send(stream, line[: len(line) // 2])
            stream.drop(reset=False)
            return False
        elif order is Disturbance.RESET:
            stream.drop(reset=True)
            return False
        elif order is Disturbance.END:
            return True
        else:
            gone = expired(f"too old resource version: {self._since} ({self._collection.version})")
            error = (
                gone if order is Disturbance.GONE else ApiError(500, "InternalError", "Internal error occurred: test")
            )
            self._send(stream, error_line(error))
            return True
        return None

    def _send_lines(self, stream: Stream, lines: list[bytes]) -> bool:
        """Send lines, minding planned disturbances; False when that ended the stream."""
        while lines:
            if not stream.hold():
                return False
            if self._planned:
                ended = self._next_planned(stream, lines[0])
                if ended is not None:
                    if ended:
                        stream.end()
                    return False
                batch = 1
            else:
                batch = _MOST_LINES_A_CHUNK
            self._send(stream, b"".join(lines[:batch]))
            self.lines += len(lines[:batch])
            lines = lines[batch:]
        return True

    def _next_planned(self, stream: Stream, line: bytes) -> bool | None:
        for plan in list(self._planned):
            if plan[0] <= self.lines:
                self._planned.remove(plan)
                ended = self._apply(stream, plan[1], line)
                if ended is not None:
                    return ended
        return None

    def _send(self, stream: Stream, data: bytes) -> None:
        if data and not self._silent:
            stream.send(data)
            self.request.sent += len(data)


def _line(kind: str, obj: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + obj + b"}\n"
