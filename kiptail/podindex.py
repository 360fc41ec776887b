"""Keeps ownership current: the pods of a node or of the whole cluster, listed once and then watched.

The watch loop is our own: it goes on from the last resourceVersion after every kind of interruption, lists anew
only when the server no longer knows that version, and never tries faster than its back-off.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from kiptail.errors import ApiError
from kiptail.indexstats import IndexStats
from kiptail.ownership import Handover, Interval, Ownership, PodRef
from kiptail.pacing import Backoff
from kiptail.podfeed import PodApi, PodFeed
from kiptail.podranges import PodRanges

__all__ = ["AddressNames", "ClusterIndex", "PodWatch"]

log = logging.getLogger(__name__)

#: Pauses between tries, in seconds.
BACKOFF_FIRST, BACKOFF_CAP = 0.5, 5.0
#: A watch that lasted so many seconds worked: the next trouble begins with the shortest pause again.
WATCH_THAT_WORKS = 5.0
#: A missing right is tried again after so many seconds.
FORBIDDEN_RETRY = 60.0
#: So many seconds after it was opened, a watch shows changes as they happen, and no longer those that were missed.
CATCHING_UP = 1.0
#: Who has an address is known so many µs after it was given: the kubelet, the API server and the watch take their time.
NEWS_US = 2_000_000


class AddressNames(Protocol):
    """What the cluster calls addresses that are no pods'."""

    def settled(self) -> bool:
        """They are known, or will not be soon."""

    def name(self, address: str) -> str:
        """``node/NAME``, ``service NAMESPACE/NAME``, or ""."""

    def no_pod(self, address: str) -> bool:
        """It is in a range that Services have."""


class PodWatch:
    """All pods of the cluster or, with a ``field_selector``, some of them, kept by a thread of its own."""

    def __init__(
        self,
        api: PodApi,
        *,
        field_selector: str = "",
        label: str | None,
        node: str = "",
        ranges: PodRanges,
        on_handover: Callable[[list[Handover]], None],
        on_ready: Callable[[], None],
        observe: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """``node``: whose pods :meth:`take_local` is about. The callbacks run in the thread."""
        self._feed = PodFeed(api, field_selector=field_selector, label=label)
        self._partial = bool(field_selector)
        self._ranges = ranges
        self._on_handover, self._on_ready, self._observe = on_handover, on_ready, observe
        self._ownership = Ownership(node=node)
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._resource_version = ""
        self._news_at = time.monotonic()
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
        self._feed.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def ready(self) -> bool:
        """All these pods were listed once."""
        return self._ready.is_set()

    def current(self) -> bool:
        """News of pods arrives at present."""
        return self._connected

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

    def expects(self, at_us: int) -> bool:
        """News of a pod that had an address then may still be under way."""
        return not self._connected or _now_us() < at_us + NEWS_US

    def age(self) -> float:
        """Seconds since the API server last said anything; bookmarks come about once a minute."""
        return time.monotonic() - self._news_at

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
        """The server was away: was it restored to an older version? A watch from its future would stay silent.

        Not asked for some of the pods: the server would have to search for one. There, only the silence tells.
        """
        self._suspect = False
        version = "" if self._partial else self._feed.newest_version()
        if version.isdecimal() and self._resource_version.isdecimal() and int(version) < int(self._resource_version):
            log.warning("the API server has an older state than before; listing all pods anew")
            self._resource_version = ""

    def _list(self) -> None:
        pods, version = self._feed.all()
        for pod in pods:
            self._ranges.note_pods(pod.addresses)
        with self._lock:
            handovers = self._ownership.replace(pods, now_us=_now_us())
        self._resource_version = version
        self._news_at = time.monotonic()
        self._report(handovers)
        log.info("%d pods listed", len(pods))
        if not self._ready.is_set():
            self._ready.set()
            self._on_ready()

    def _watch(self) -> None:
        lines, begin = 0, time.monotonic()
        try:
            with self._feed.watch(self._resource_version) as stream:
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
        if not self._stop.is_set():
            self._observe("ended")
        # A server that ends every stream at once is not asked again at once.
        self._pause(self._backoff.pause())

    def _take(self, line: bytes) -> None:
        """One line of the watch. Raises ApiError."""
        change = self._feed.change(line)
        self._news_at = time.monotonic()
        handovers: list[Handover] = []
        live = time.monotonic() >= self._live_at
        if change.pod is not None:
            self._ranges.note_pods(change.pod.addresses)
            with self._lock:
                handovers = self._ownership.put(change.pod, now_us=_now_us(), live=live)
        elif change.gone:
            with self._lock:
                handovers = self._ownership.remove(change.gone, now_us=_now_us(), live=live)
        if change.version:
            self._resource_version = change.version
        self._report(handovers)

    def _report(self, handovers: list[Handover]) -> None:
        if handovers:
            self._on_handover(handovers)

    def _interrupted(self, error: ApiError) -> None:
        """Decide where to go on, and when."""
        if self._stop.is_set():
            return
        pause = self._backoff.pause()
        self._suspect = self._suspect or error.unreachable
        if error.status == 410:
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
        self._observe(_reason(error))
        self._pause(pause)

    def _recovered(self) -> None:
        if self.trouble:
            self.trouble = ""
            log.info("the pods can be followed again")

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)


class ClusterIndex(PodWatch):
    """All pods of the cluster."""

    def __init__(
        self,
        api: PodApi,
        *,
        label: str | None,
        node: str = "",
        ranges: PodRanges,
        names: AddressNames,
        on_handover: Callable[[list[Handover]], None],
        on_ready: Callable[[], None],
        observe: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """As :class:`PodWatch`; ``names`` tells what is no pod's."""
        super().__init__(
            api, label=label, node=node, ranges=ranges, on_handover=on_handover, on_ready=on_ready, observe=observe
        )
        self._names = names

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's, or ""."""
        node = self.node(address)
        return f"node/{node}" if node else self._names.name(address)

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out."""
        if not self._names.settled():
            return True
        return self.expects(at_us) and self._ranges.could_be_pod(address) and not self._names.no_pod(address)

    def stats(self) -> IndexStats:
        """For the metrics."""
        return IndexStats(pods=len(self), age_s=self.age())


def _reason(error: ApiError) -> str:
    """One of a few words, for a metric."""
    if error.silent:
        return "silent"
    if error.reason in ("BadLine", "BadResponse"):
        return "garbage"
    if error.unreachable:
        return "unreachable"
    return {401: "unauthorized", 403: "forbidden", 410: "expired", 429: "throttled"}.get(error.status or 0, "error")


def _now_us() -> int:
    return time.time_ns() // 1000
