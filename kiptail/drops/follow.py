"""Follows the Events of a namespace: a list, then a watch from there on, again and again; in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from dataclasses import dataclass

from kiptail.clock.pacing import Backoff
from kiptail.clock.trouble import Trouble
from kiptail.drops.changes import Change, read_line
from kiptail.drops.requests import EventApi, list_rows, refused
from kiptail.drops.row import Row
from kiptail.drops.wanted import Wanted
from kiptail.errors import ApiError, ClusterError
from kiptail.pods.listwatch import WatchLines

__all__ = ["Failed", "Follower", "Listed", "Remark", "Update"]

#: The server is asked to end a watch after so many seconds.
_WATCH_S = 290
#: Who may list Events but not watch them sees new ones by lists, each so many seconds after the one before.
POLL_S = 1.0
_PAUSE_FIRST_S, _PAUSE_CAP_S = 0.5, 10.0
#: Updates that nobody has taken yet; the watch waits then.
_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Listed:
    """All rows, as of now."""

    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to say to whoever looks."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It is over."""

    error: ClusterError


Update = Listed | Change | Remark | Failed


class Follower:
    """One run, until it is closed; whoever closes the API client then ends its request."""

    def __init__(self, api: EventApi, wanted: Wanted) -> None:
        self._api, self._wanted = api, wanted
        self._updates: queue.Queue[Update] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._trouble = Trouble()
        self._watches = True
        self._stream: WatchLines | None = None
        self._thread = threading.Thread(target=self._run, name="kubectl-drops-follow", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if (stream := self._stream) is not None:
            stream.close()

    def next(self, timeout_s: float) -> Update | None:
        """What has come; None when nothing does within ``timeout_s``."""
        with contextlib.suppress(queue.Empty):
            return self._updates.get(timeout=timeout_s)
        return None

    def _run(self) -> None:
        pauses = Backoff(_PAUSE_FIRST_S, _PAUSE_CAP_S)
        listed = False
        while not self._closed.is_set():
            try:
                rows, version = list_rows(self._api, self._wanted)
                self._put(Listed(rows))
                listed = True
                if self._trouble.ends():
                    self._put(Remark("the API server answers again"))
                pauses.reset()
                if self._watches:
                    self._watch(version)
                self._closed.wait(POLL_S)
            except ApiError as error:
                if not listed or error.status in (401, 403):
                    self._put(Failed(refused(error, self._wanted)))
                    return
                if not self._closed.is_set() and self._trouble.begins(str(error)):
                    self._put(Remark(f"trying again: {error}"))
                self._closed.wait(pauses.pause())

    def _watch(self, version: str) -> None:
        """Take in changes for as long as one watch after the other goes on where the last ended. Raises ApiError."""
        while not self._closed.is_set():
            stream = self._api.watch_events(
                self._wanted.namespace,
                resource_version=version,
                field_selector=self._wanted.field_selector,
                timeout_s=round(_WATCH_S * random.uniform(0.8, 1.0)),  # noqa: S311 - no secret
            )
            self._stream = stream
            if self._closed.is_set():  # __exit__() may have looked for a stream before there was one
                stream.close()
            came = 0
            try:
                with stream as lines:
                    for line in lines:
                        change = read_line(line)
                        if change.failed:
                            return
                        came += 1
                        version = change.version or version
                        self._put(change)
            except ApiError as error:
                if error.status == 410:
                    return
                if error.status != 403:
                    raise
                self._watches = False
                self._put(Remark(f"may not watch events, so they are listed every {POLL_S:g} s"))
                return
            if not came:
                # Not even a bookmark: a server that ends watches at once would be asked without an end.
                self._closed.wait(POLL_S)

    def _put(self, update: Update) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._updates.put(update, timeout=POLL_S)
                return
