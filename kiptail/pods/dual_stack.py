"""The second family of other nodes' dual-stack pods, which no selector finds: now and then, all pods are read once.

``status.podIP`` is a pod's first address. A dual-stack list is the list of all pods, page by page, for all addresses
that wait together; it keeps which second addresses belong to which first ones, and from then on, look-ups by the first
one do. It is read only when somebody asks for an address that is not known yet, at most once in ten minutes, and never
in a large cluster.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kiptail.clock.own import OwnClock
from kiptail.errors import ApiError
from kiptail.kube.pages import items_of, next_page, pages
from kiptail.pods.dual_stack_plan import DualStackPlan
from kiptail.pods.pod import Pod
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.traits import SharedTraits

__all__ = ["DualStackApi", "DualStackList"]

log = logging.getLogger(__name__)

#: The most pods of a small cluster, which is read soon.
SMALL_CLUSTER = 500
#: The most pods of a cluster that is listed; a larger one is tried again after this time, in seconds.
MAX_PODS = 5_000
OFF_RETRY = 6 * 3600.0
#: The same without the right, in seconds.
FORBIDDEN_RETRY = 600.0
#: Pods a page, and a pause between pages, in seconds: nobody is in a hurry.
PAGE_LIMIT = 250
PAGE_PAUSE = 0.05
#: Pages of all pods, where the server leaves every second one empty.
MAX_PAGES = 2 * MAX_PODS // PAGE_LIMIT


class DualStackApi(Protocol):
    """What is asked of the API server."""

    def list_pods_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """One page of a PodList. Raises ApiError."""


@dataclass(slots=True)
class _Cost:
    """What was read so far."""

    #: Lists that were read to their end.
    lists: int = 0
    pods: int = 0
    #: Objects that were read and are no pods.
    refused: int = 0
    seconds: float = 0.0


class DualStackList:
    """Reads all pods, for the sake of addresses that cannot be looked up; a thread, started with the first of them."""

    def __init__(
        self,
        api: DualStackApi,
        *,
        label: str | None,
        found: Callable[[list[Pod], frozenset[str]], None],
        on_answer: Callable[[frozenset[str]], None],
        clock: OwnClock | None = None,
        traits: SharedTraits | None = None,
    ) -> None:
        """Both callbacks run in the thread.

        ``found(pods, awaited)`` takes those of a page's pods that have two addresses; ``on_answer(awaited)`` follows
        at the end: what awaited these addresses can be answered. ``traits``: as for :func:`reduce_pod`.
        """
        self._api = api
        self._label = label
        self._traits = traits
        self._found = found
        self._on_answer = on_answer
        self._clock = clock or OwnClock()
        #: For the plan and the end.
        self._changed = threading.Condition()
        self._plan = DualStackPlan()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.cost = _Cost()

    @property
    def pending(self) -> int:
        """Addresses that wait for a list."""
        return len(self._plan)

    def knows(self, address: str, at_us: int) -> bool:
        """A list for this address read all pods after ``at_us``."""
        with self._changed:
            return self._plan.answers(address, at_us)

    def awaits(self, address: str) -> bool:
        """The address waits for a list."""
        return address in self._plan

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` (µs since the epoch) found; True while that is awaited."""
        with self._changed:
            if self._closed or not self._plan.add(address, at_us):
                return False
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dual-stack-list", daemon=True)
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
        while awaited := self._next():
            began, begin_us = time.monotonic(), self._clock.now_us()
            complete = False
            try:
                if self._is_too_soon():
                    continue
                complete = not self._plan.is_off() and self._read_all(awaited)
                self._plan.reached()
            except ApiError as error:
                if self._closed:
                    return
                if error.status == 403:
                    self._plan.turn_off(FORBIDDEN_RETRY)
                log.debug("the pods cannot be swept: %s", error)
            self.cost.seconds += time.monotonic() - began
            answered = self._settled(awaited, begin_us, complete=complete)
            if answered:
                self._on_answer(answered)

    def _settled(self, awaited: frozenset[str], begin_us: int, *, complete: bool) -> frozenset[str]:
        """Whoever waits no longer, now that this try is over."""
        with self._changed:
            if complete:
                self.cost.lists += 1
                return self._plan.complete(awaited, begin_us)
            if self._plan.is_off():
                self._plan.drop()
                return awaited
            self._plan.failed()
            return frozenset()

    def _next(self) -> frozenset[str]:
        """Wait until there is something to read for, and the time has come; nothing at the end."""
        with self._changed:
            while not self._closed:
                awaited, wait = self._plan.next()
                if awaited:
                    return awaited
                self._changed.wait(wait)
            return frozenset()

    def _is_too_soon(self) -> bool:
        """Not a small cluster, and not yet the time for another; asks how many pods there are. Raises ApiError."""
        if not self._plan.is_early():
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
            self._plan.postpone()
        return True

    def _is_too_large(self, total: int) -> bool:
        """The cluster has too many pods: say so, and stop for long."""
        if total <= MAX_PODS:
            return False
        self._plan.turn_off(OFF_RETRY)
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
            self.cost.pods += len(items)
            if self._is_too_large(_total(page, read)):
                return False
            pods = [reduce_pod(item, label=self._label, traits=self._traits) for item in items]
            self.cost.refused += pods.count(None)
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
