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

from kiptail.clock.own import OwnClock
from kiptail.clock.pacing import Backoff
from kiptail.errors import ApiError
from kiptail.kube.errors import bad_answer
from kiptail.pods.listwatch import PodApi, PodFeed
from kiptail.pods.ownership import Hands, Interval, Owned, Ownership, Pod, hands_of
from kiptail.pods.ranges import PodRanges
from kiptail.pods.stats import IndexStats

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
#: Where a line of a watch was passed over, a change may be missing, and all pods are listed anew when the watch has
#: ended; so many seconds apart at least.
GAP_RELIST = 300.0
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

    def note_pods(self, addresses: Iterable[str]) -> None:
        """These are pods': no name is looked for."""


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
        on_change: Callable[[set[str]], None],
        on_ready: Callable[[], None],
        on_nodes: Callable[[], None] = lambda: None,
        observe: Callable[[str], None] = lambda reason: None,
        clock: OwnClock | None = None,
    ) -> None:
        """``node``: this machine's; ``clock`` is what drops' times are told by. The callbacks run in the thread.

        ``on_change`` gets the addresses of which more, or something else, is known than before; ``on_nodes`` runs
        when an address turned out to be a node's.
        """
        self._clock = clock or OwnClock()
        self._feed = PodFeed(api, field_selector=field_selector, label=label, node=node, clock=self._clock)
        self._partial = bool(field_selector)
        self._ranges = ranges
        self._on_change, self._on_ready, self._on_nodes, self._observe = on_change, on_ready, on_nodes, observe
        self._ownership = Ownership(node=node)
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._resource_version = ""
        self._news_at = time.monotonic()
        #: When all that had happened was known, and when pods were watched, for the last time.
        self._fresh_us = self._watched_us = 0
        self._connected = False
        self._suspect = False
        self._live_at = 0.0
        #: A change may be missing, and when all pods may be listed anew for that.
        self._gaps = False
        self._gaps_at = 0.0
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

    def fresh_us(self) -> int:
        """Up to when all that happened is known, µs since the epoch, as far as the watch does not lag."""
        return self._fresh_us

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """As :meth:`Ownership.intervals`."""
        with self._lock:
            return self._ownership.intervals(address)

    def owned(self, address: str, at_us: int) -> Owned:
        """As :meth:`Ownership.owned`."""
        with self._lock:
            return self._ownership.owned(address, at_us)

    def recorded(self, address: str, at_us: int) -> Owned:
        """As :meth:`owned`: whatever is known needs no second look."""
        return self.owned(address, at_us)

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""
        return hands_of(self.intervals(address))

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""
        return any(interval.ref.uid == uid for interval in self.intervals(address))

    def probed(self, address: str, port: int) -> bool:
        """A pod of this node that has the address now is probed on this port."""
        with self._lock:
            return any(port in self._ownership.probes(i.key) for i in self._ownership.intervals(address))

    def contested(self, address: str, at_us: int) -> bool:
        """Another one than the likely owner may turn out to have had an address then: it is worth waiting."""
        if not self._connected:
            return True
        if self._clock.now_us() >= at_us + NEWS_US:
            return False
        with self._lock:
            return self._ownership.claimed(at_us) or len(self._ownership.owned(address, at_us).pods) > 1

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
        self._fresh_us = self._watched_us = seen_us
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
        return not self._connected or self._clock.now_us() < at_us + NEWS_US

    def age(self) -> float:
        """Seconds since the API server last said anything; bookmarks come about once a minute."""
        return time.monotonic() - self._news_at

    @property
    def refused(self) -> int:
        """Pods and lines that were not what they should be and were passed over."""
        return self._feed.refused

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
            new_nodes = self._tells_of_nodes(pods)
            changed = self._ownership.replace(pods, now_us=self._clock.now_us(), seen_us=self._watched_us)
        self._resource_version = version
        self._heard()
        self._report(changed, new_nodes)
        log.info("%d pods listed", len(pods))
        if not self._ready.is_set():
            self._ready.set()
            self._on_ready()

    def _watch(self) -> None:
        lines, begin = 0, time.monotonic()
        was_garbled = self._feed.garbled
        try:
            with self._feed.watch(self._resource_version) as stream:
                self._connected = True
                self._live_at = time.monotonic() + CATCHING_UP
                if not was_garbled:
                    self._recovered()
                for line in stream:
                    if self._stop.is_set():
                        return
                    self._take(line)
                    lines += 1
            if self._feed.garbled:
                raise bad_answer("cannot watch pods", "is no watch")
            self._recovered()
        except ApiError as error:
            if error.silent and not lines:
                # Neither a change nor a bookmark: the server may have been restored to an older version, and a
                # watch from its future stays silent for ever. A list tells.
                self._resource_version = ""
            raise
        finally:
            if self._connected:
                self._watched_us = self._clock.now_us()
            self._connected = False
            self._mind_gaps()
            if time.monotonic() - begin > WATCH_THAT_WORKS:
                self._backoff.reset()
        if not self._stop.is_set():
            self._observe("ended")
        # A server that ends every stream at once is not asked again at once.
        self._pause(self._backoff.pause())

    def _take(self, line: bytes) -> None:
        """One line of the watch. Raises ApiError."""
        change = self._feed.change(line)
        # As long as nothing of a stream is understood, no news arrives.
        self._connected = not self._feed.garbled
        if self._connected:
            self._recovered()
        if change.bad:
            log.debug("a line of the watch is passed over: %s", change.bad)
        pod, now_us = change.pod, self._clock.now_us()
        changed: set[str] = set()
        live, new_nodes = time.monotonic() >= self._live_at, False
        if pod is not None:
            self._ranges.note_pods(pod.addresses)
        with self._lock:
            if pod is not None:
                new_nodes = self._tells_of_nodes((pod,))
                changed |= self._ownership.put(pod, now_us=now_us, live=live)
            if change.gone:
                changed |= self._ownership.remove(change.gone, now_us=now_us, live=live)
            too_many = len(self._ownership) > self._feed.most
        if change.version:
            self._resource_version = change.version
        if not change.bad:
            self._heard()
        self._report(changed, new_nodes)
        if too_many:
            self._resource_version = ""
            raise bad_answer("cannot watch pods", f"has more than {self._feed.most} pods")

    def _mind_gaps(self) -> None:
        """A watch is over: have all pods listed anew if a change may be missing, and the last time was long ago."""
        self._gaps = self._gaps or self._feed.gaps
        if self._gaps and time.monotonic() >= self._gaps_at:
            self._gaps, self._gaps_at = False, time.monotonic() + GAP_RELIST
            self._resource_version = ""
            self._observe("garbage")
            log.warning("some of what the watch of pods told was passed over, for it made no sense; listing all anew")

    def _heard(self) -> None:
        """The API server has told all that there was to tell."""
        self._news_at = time.monotonic()
        self._fresh_us = self._clock.now_us()

    def _tells_of_nodes(self, pods: Iterable[Pod]) -> bool:
        """Whether these pods tell of nodes' addresses that were not known, with the lock held and before they are."""
        return any(self._ownership.node(a) != pod.node for pod in pods for a in pod.host_addresses)

    def _report(self, changed: set[str], new_nodes: bool) -> None:
        if changed:
            self._on_change(changed)
        if new_nodes:
            self._on_nodes()

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
        on_change: Callable[[set[str]], None],
        on_ready: Callable[[], None],
        on_nodes: Callable[[], None] = lambda: None,
        observe: Callable[[str], None] = lambda reason: None,
        clock: OwnClock | None = None,
    ) -> None:
        """As :class:`PodWatch`; ``names`` tells what is no pod's."""
        super().__init__(
            api,
            label=label,
            node=node,
            ranges=ranges,
            on_change=on_change,
            on_ready=on_ready,
            on_nodes=on_nodes,
            observe=observe,
            clock=clock,
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
        return IndexStats(pods=len(self), age_s=self.age(), refused=self.refused)


def _reason(error: ApiError) -> str:
    """One of a few words, for a metric."""
    if error.silent:
        return "silent"
    if error.reason == "BadResponse":
        return "garbage"
    if error.unreachable:
        return "unreachable"
    return {401: "unauthorized", 403: "forbidden", 410: "expired", 429: "throttled"}.get(error.status or 0, "error")
