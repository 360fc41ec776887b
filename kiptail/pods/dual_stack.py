"""The second family of other nodes' dual-stack pods, which no selector finds: now and then, all pods are read once.

``status.podIP`` is a pod's first address. A sweep reads the list of all pods page by page, for all addresses that
wait together, and keeps which second addresses belong to which first ones; from then on, look-ups by the first one
do. It happens only when somebody asks for an address that is not known yet, at most once in ten minutes, and never
in a large cluster.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from cachetools import TTLCache

from kiptail.clock.own import OwnClock
from kiptail.errors import ApiError
from kiptail.kube.pages import items_of, next_page, pages
from kiptail.pods.pod import Pod
from kiptail.pods.pod_object import reduce_pod

__all__ = ["Sweep", "SweepApi"]

log = logging.getLogger(__name__)

#: Seconds between two sweeps, at least; up to a fifth is added, so that a cluster's nodes do not go together.
INTERVAL = 600.0
#: The first one follows its question after up to so many seconds, so that a cluster's nodes do not go together …
FIRST_WITHIN = 20.0
#: … and in a cluster of up to so many pods earlier: how many there are is asked after up to so many seconds.
SMALL_CLUSTER, SMALL_FIRST_WITHIN = 500, 3.0
#: In a cluster with more pods there is none; so long later it is tried again, in seconds.
MAX_PODS = 5_000
OFF_RETRY = 6 * 3600.0
#: Without the right, so long.
FORBIDDEN_RETRY = 600.0
#: After a failure, in seconds; it is twice as long after each further one, up to the interval.
FAILED_RETRY = 30.0
#: Pods a page, and a pause between pages, in seconds: nobody is in a hurry.
PAGE_LIMIT = 250
PAGE_PAUSE = 0.05
#: Pages of all pods, where the server leaves every second one empty.
MAX_PAGES = 2 * MAX_PODS // PAGE_LIMIT
#: Addresses that wait at most.
MAX_WAITING = 2_048


class SweepApi(Protocol):
    """What is asked of the API server."""

    def list_pods_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """One page of a PodList. Raises ApiError."""


class Sweep:
    """Reads all pods, for the sake of addresses that cannot be looked up; a thread, started with the first of them."""

    def __init__(
        self,
        api: SweepApi,
        *,
        label: str | None,
        found: Callable[[list[Pod], frozenset[str]], None],
        on_answer: Callable[[frozenset[str]], None],
        clock: OwnClock | None = None,
    ) -> None:
        """Both callbacks run in the thread.

        ``found(pods, awaited)`` takes those of a page's pods that have two addresses; ``on_answer(awaited)`` follows
        at the end: what awaited these addresses can be told.
        """
        self._api, self._label, self._found, self._on_answer = api, label, found, on_answer
        self._clock = clock or OwnClock()
        self._changed = threading.Condition()
        self._awaited: set[str] = set()
        #: Up to when all pods are read, and for which addresses whoever had them was kept.
        self._swept_us = 0
        self._answered_us: TTLCache[str, int] = TTLCache(MAX_WAITING, INTERVAL)
        self._not_before = 0.0
        #: Until then only a small cluster is swept.
        self._small_until = 0.0
        self._retry = FAILED_RETRY
        self._off_until = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False
        #: How often, how many pods were read, and how long that took, in seconds.
        self.sweeps = self.pods = 0
        #: Objects that were read and are no pods.
        self.refused = 0
        self.seconds = 0.0

    @property
    def pending(self) -> int:
        """Addresses that wait for a sweep."""
        return len(self._awaited)

    def knows(self, address: str, at_us: int) -> bool:
        """A sweep for this address read all pods after ``at_us``."""
        with self._changed:
            return at_us <= self._answered_us.get(address, 0)

    def awaits(self, address: str) -> bool:
        """The address waits for a sweep."""
        return address in self._awaited

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` (µs since the epoch) found; True while that is awaited."""
        with self._changed:
            now = time.monotonic()
            if self._closed or at_us <= self._swept_us or now < self._off_until or len(self._awaited) >= MAX_WAITING:
                return False
            if not self._awaited:
                self._small_until = now + random.uniform(0.0, FIRST_WITHIN)  # noqa: S311 - jitter, no secret
                soon = min(now + random.uniform(0.0, SMALL_FIRST_WITHIN), self._small_until)  # noqa: S311 - as above
                self._not_before = max(self._not_before, soon)
                self._changed.notify()
            self._awaited.add(address)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pod-sweep", daemon=True)
                self._thread.start()
            return True

    def close(self, timeout: float = 2.0) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    # -- the thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (awaited := self._next()) is not None:
            began, begin_us = time.monotonic(), self._clock.now_us()
            complete = False
            try:
                if self._is_too_soon():
                    continue
                complete = time.monotonic() >= self._off_until and self._read_all(awaited)
                self._retry = FAILED_RETRY
            except ApiError as error:
                if self._closed:
                    return
                if error.status == 403:
                    self._off_until = time.monotonic() + FORBIDDEN_RETRY
                log.debug("the pods cannot be swept: %s", error)
            taken = time.monotonic() - began
            with self._changed:
                self.seconds += taken
                off = not complete and time.monotonic() < self._off_until
                if complete:
                    self.sweeps += 1
                    self._swept_us = begin_us
                    self._answered_us.update(dict.fromkeys(awaited, begin_us))
                    # Those that came too late for this one can be looked up by their first address now.
                    awaited |= self._awaited
                    self._awaited.clear()
                    pause = INTERVAL * random.uniform(1.0, 1.2)  # noqa: S311 - jitter, no secret
                elif off:
                    self._awaited.clear()
                    pause = 0.0
                else:
                    pause, self._retry = self._retry, min(2 * self._retry, INTERVAL)
                self._not_before = time.monotonic() + pause
            if complete or off:
                self._on_answer(awaited)

    def _next(self) -> frozenset[str] | None:
        """Wait until there is something to sweep for, and the time has come; None at the end."""
        with self._changed:
            while not self._closed:
                wait = self._not_before - time.monotonic()
                if self._awaited and wait <= 0:
                    return frozenset(self._awaited)
                self._changed.wait(wait if self._awaited else None)
            return None

    def _is_too_soon(self) -> bool:
        """Not a small cluster, and not yet the time for another; asks how many pods there are. Raises ApiError."""
        if time.monotonic() >= self._small_until:
            return False
        page = self._api.list_pods_page(limit=1)
        read = len(items_of(page))
        total = _total(page, read)
        if self._is_too_large(total):
            return False
        # A page that is followed by others, without their count, does not show a small cluster.
        counted = total > read or not next_page(page)
        if total <= SMALL_CLUSTER and counted:
            return False
        with self._changed:
            self._not_before = self._small_until
        return True

    def _is_too_large(self, total: int) -> bool:
        """The cluster has too many pods: say so, and stop for long."""
        if total <= MAX_PODS:
            return False
        self._off_until = time.monotonic() + OFF_RETRY
        log.warning(
            "the cluster has more than %d pods: other nodes' pods are not found by their second addresses;"
            " --pod-index cluster finds them, with a credential that may list and watch all pods: a kubelet's may not",
            MAX_PODS,
        )
        return True

    def _read_all(self, awaited: frozenset[str]) -> bool:
        """False when there are too many, or it was closed. Raises ApiError."""
        read = 0
        for page in pages(self._page, most=MAX_PAGES):
            items = items_of(page)
            read += len(items)
            self.pods += len(items)
            if self._is_too_large(_total(page, read)):
                return False
            pods = [reduce_pod(item, label=self._label) for item in items]
            self.refused += pods.count(None)
            more = bool(next_page(page))
            del page, items
            self._found([pod for pod in pods if pod is not None and len(pod.addresses) > 1], awaited)
            with self._changed:
                if more:
                    self._changed.wait_for(lambda: self._closed, PAGE_PAUSE)
                if self._closed:
                    return False
        return True

    def _page(self, token: str) -> dict[str, Any]:
        return self._api.list_pods_page(limit=PAGE_LIMIT, continue_token=token)


def _total(page: dict[str, Any], read: int) -> int:
    """How many pods there are, when ``read`` of them have come up to this page; the server leaves a 0 out."""
    more = (page.get("metadata") or {}).get("remainingItemCount")
    return read + (more if type(more) is int and more > 0 else 0)
