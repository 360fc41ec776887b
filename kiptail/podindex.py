"""Keeps ownership current: all pods of the cluster, listed in pages and then watched.

The watch loop is our own: it goes on from the last resourceVersion after every kind of interruption, lists anew
only when the server no longer knows that version, and never tries faster than its back-off.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

from kiptail.errors import ApiError
from kiptail.ownership import Handover, Interval, Ownership, Pod, PodRef, reduce_pod
from kiptail.pacing import Backoff

__all__ = ["ClusterIndex", "PodApi"]

log = logging.getLogger(__name__)

PAGE_LIMIT = 500
#: The server ends a watch after about so many seconds; bookmarks come about once a minute in between.
WATCH_TIMEOUT = 290
#: Pauses between tries, in seconds.
BACKOFF_FIRST, BACKOFF_CAP = 0.5, 5.0
#: A watch that lasted so many seconds worked: the next trouble begins with the shortest pause again.
WATCH_THAT_WORKS = 5.0
#: A missing right is tried again after so many seconds.
FORBIDDEN_RETRY = 60.0
#: So many seconds after it was opened, a watch shows changes as they happen, and no longer those that were missed.
CATCHING_UP = 1.0


class WatchLines(Protocol):
    """A watch that connects when it is entered."""

    def __enter__(self) -> Iterator[bytes]: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def close(self) -> None:
        """Break it off, from any thread."""


class PodApi(Protocol):
    """What is asked of the API server. All raise :class:`ApiError`."""

    def list_pods_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """One page of a PodList."""

    def watch_pods(self, *, resource_version: str, timeout_s: int) -> WatchLines:
        """The lines of a watch with bookmarks; the iterator raises ApiError when the stream breaks or is silent."""


class ClusterIndex:
    """All pods of the cluster, kept by a thread of its own."""

    def __init__(
        self,
        api: PodApi,
        *,
        label: str | None,
        node: str = "",
        on_handover: Callable[[list[Handover]], None],
        on_ready: Callable[[], None],
        observe: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """``node``: whose pods :meth:`take_local` is about. The callbacks run in the thread."""
        self._api, self._label = api, label
        self._on_handover, self._on_ready, self._observe = on_handover, on_ready, observe
        self._ownership = Ownership(node=node)
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._resource_version = ""
        self._stream: WatchLines | None = None
        self._connected = False
        self._suspect = False
        self._live_at = 0.0
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        #: Why the index is not kept current at present, or "".
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="pod-watcher", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread; a request that is under way is not waited for any longer than ``timeout`` seconds."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def ready(self) -> bool:
        """All pods were listed once."""
        return self._ready.is_set()

    def current(self) -> bool:
        """News of pods arrives at present."""
        return self._connected

    def final(self) -> bool:
        """The cluster goes on."""
        return False

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """As :meth:`Ownership.owners`."""
        with self._lock:
            return self._ownership.owners(address, at_us)

    def node(self, address: str) -> str:
        """As :meth:`Ownership.node`."""
        with self._lock:
            return self._ownership.node(address)

    def has_node(self, name: str) -> bool:
        """As :meth:`Ownership.has_node`."""
        with self._lock:
            return self._ownership.has_node(name)

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """As :meth:`Ownership.restore`; before :meth:`start`."""
        with self._lock:
            self._ownership.restore(intervals, seen_us=seen_us)

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """As :meth:`Ownership.take_local`."""
        with self._lock:
            return self._ownership.take_local()

    def forget(self, before_us: int) -> None:
        """As :meth:`Ownership.forget`."""
        with self._lock:
            self._ownership.forget(before_us)

    def __len__(self) -> int:
        with self._lock:
            return len(self._ownership)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._resource_version and self._suspect:
                    self._check_version()
                if not self._resource_version:
                    self._list()
                self._watch()
            except ApiError as error:
                self._interrupted(error)

    def _check_version(self) -> None:
        """The server was away: was it restored to an older version? A watch from its future would stay silent."""
        metadata = self._api.list_pods_page(limit=1).get("metadata") or {}
        version = str(metadata.get("resourceVersion") or "")
        self._suspect = False
        if version.isdecimal() and self._resource_version.isdecimal() and int(version) < int(self._resource_version):
            log.warning("the API server has an older state than before; listing all pods anew")
            self._resource_version = ""

    def _list(self) -> None:
        pods: list[Pod] = []
        token = ""
        while not self._stop.is_set():
            page = self._api.list_pods_page(limit=PAGE_LIMIT, continue_token=token)
            pods += [pod for item in _items(page) if (pod := reduce_pod(item, label=self._label))]
            metadata = page.get("metadata") or {}
            token = str(metadata.get("continue") or "")
            version = str(metadata.get("resourceVersion") or "")
            del page
            if not token:
                break
        else:
            return
        with self._lock:
            handovers = self._ownership.replace(pods, now_us=_now_us())
        self._resource_version = version
        self._report(handovers)
        log.info("%d pods listed", len(pods))
        if not self._ready.is_set():
            self._ready.set()
            self._on_ready()

    def _watch(self) -> None:
        lines, begin = 0, time.monotonic()
        timeout = round(WATCH_TIMEOUT * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, no secret
        self._stream = self._api.watch_pods(resource_version=self._resource_version, timeout_s=timeout)
        if self._stop.is_set():
            return  # stop() may have looked for a stream before there was one
        try:
            with self._stream as stream:
                self._connected = True
                self._live_at = time.monotonic() + CATCHING_UP
                self._recovered()
                for line in stream:
                    if self._stop.is_set():
                        return
                    self._take(line)
                    lines += 1
        except ApiError as error:
            if error.silent and not lines:
                # Neither a change nor a bookmark: the server may have been restored to an older version, and a
                # watch from its future stays silent for ever. A list tells.
                self._resource_version = ""
            raise
        finally:
            self._connected = False
            if time.monotonic() - begin > WATCH_THAT_WORKS:
                self._backoff.reset()
        # A server that ends every stream at once is not asked again at once.
        self._pause(self._backoff.pause())

    def _take(self, line: bytes) -> None:
        """One line of the watch, a metav1.WatchEvent; raises ApiError for an ERROR or what is none."""
        try:
            event = json.loads(line)
            kind, obj = event["type"], event["object"]
            metadata = obj.get("metadata") or {}
            version, key = metadata.get("resourceVersion"), metadata.get("uid")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ApiError("a line of the watch is not what it should be", reason="BadLine") from error
        if kind == "ERROR":
            raise ApiError(
                str(obj.get("message") or "the watch failed"),
                status=obj.get("code") if isinstance(obj.get("code"), int) else 500,
                reason=str(obj.get("reason") or ""),
            )
        handovers: list[Handover] = []
        live = time.monotonic() >= self._live_at
        if kind in ("ADDED", "MODIFIED"):
            pod = reduce_pod(obj, label=self._label)
            if pod is not None:
                with self._lock:
                    handovers = self._ownership.put(pod, now_us=_now_us(), live=live)
        elif kind == "DELETED":
            with self._lock:
                handovers = self._ownership.remove(str(key), now_us=_now_us(), live=live)
        if isinstance(version, str) and version:
            self._resource_version = version
        self._report(handovers)

    def _report(self, handovers: list[Handover]) -> None:
        if handovers:
            self._on_handover(handovers)

    def _interrupted(self, error: ApiError) -> None:
        """Decide where to go on, and when."""
        if self._stop.is_set():
            return
        pause = self._backoff.pause()
        reason = "unreachable" if error.unreachable else str(error.status)
        self._suspect = self._suspect or error.unreachable
        if error.status == 410:
            reason = "expired"
            self._resource_version = ""
            log.debug("the watch is too old, listing anew: %s", error)
        else:
            if error.status == 403:
                pause = FORBIDDEN_RETRY
            elif error.retry_after is not None:
                pause = max(pause, min(error.retry_after, FORBIDDEN_RETRY))
            if error.status is not None and not error.transient and error.status not in (401, 403):
                self._resource_version = ""
            if not self.trouble:
                log.warning("the pods cannot be followed at present, trying again: %s", error)
            self.trouble = str(error)
        self._observe(reason)
        self._pause(pause)

    def _recovered(self) -> None:
        if self.trouble:
            self.trouble = ""
            log.info("the pods can be followed again")

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)


def _items(page: dict[str, Any]) -> list[Any]:
    items = page.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _now_us() -> int:
    return time.time_ns() // 1000
