"""Look-ups of pods by their address, for the other ends of flows: cached, one at a time for an address, and paced.

Whoever asks gets an answer at once: whether there is something to wait for. The API server is asked by a small pool
of threads, started with the first question.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from kiptail.clock.own import OwnClock
from kiptail.clock.trouble import Trouble
from kiptail.errors import ApiError
from kiptail.kube.pages import items_of, next_page
from kiptail.pods.found import Found
from kiptail.pods.lookup_queue import LookupQueue
from kiptail.pods.pod import Pod
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.traits import SharedTraits

__all__ = ["LookupApi", "Lookups"]

log = logging.getLogger(__name__)

#: Look-ups at a time.
WORKERS = 2
#: Pods a page: few have the same address, and so small a page takes one seat of the server's fairness queues. At
#: resourceVersion 0 the server answers from memory, and with all of them.
PAGE_LIMIT = 10
MAX_PAGES = 20


class LookupApi(Protocol):
    """What is asked of the API server."""

    def list_pods_page(
        self, *, limit: int, continue_token: str = "", resource_version: str | None = None, field_selector: str = ""
    ) -> dict[str, Any]:
        """One page of a PodList. Raises ApiError."""


class _Query:
    """The question itself, for any thread."""

    def __init__(self, api: LookupApi, label: str | None, traits: SharedTraits | None) -> None:
        self._api = api
        self._label = label
        self._traits = traits
        #: Objects that were found and are no pods.
        self.refused = 0

    def pods(self, address: str) -> list[Pod]:
        """Those that have the address as their first. Raises ApiError."""
        pods: list[Pod] = []
        token = ""
        for _ in range(MAX_PAGES):
            page = self._api.list_pods_page(
                limit=PAGE_LIMIT,
                continue_token=token,
                resource_version="0",
                field_selector=f"status.podIP={address}",
            )
            found = [reduce_pod(item, label=self._label, traits=self._traits) for item in items_of(page)]
            pods += [pod for pod in found if pod is not None]
            self.refused += found.count(None)
            token = next_page(page)
            if not token:
                break
        return pods


class Lookups:
    """Asks which pods have an address; the pods go to ``found``, whoever keeps them."""

    def __init__(
        self,
        api: LookupApi,
        *,
        label: str | None,
        found: Callable[[str, list[Pod], int], frozenset[str]],
        on_answer: Callable[[frozenset[str]], None],
        how_to_grant: Callable[[], str],
        clock: OwnClock | None = None,
        traits: SharedTraits | None = None,
    ) -> None:
        """The callbacks run in the pool's threads.

        ``found(address, pods, asked_us)`` takes the pods whose first address that is, or was, and tells which
        addresses they have now. ``on_answer(addresses)`` follows: what awaited these is answered. ``how_to_grant()``
        says, when the right to list pods is missing, what to do; it may take a request. ``traits``: as for
        :func:`reduce_pod`.
        """
        self._query = _Query(api, label, traits)
        self._clock = clock or OwnClock()
        self._found = found
        self._on_answer = on_answer
        self._how_to_grant = how_to_grant
        #: For all that follows.
        self._changed = threading.Condition()
        self._answers = Found()
        self._queue = LookupQueue()
        self._trouble = Trouble()
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: Answers by result: hit, miss, forbidden, failed, overflow.
        self.results: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Addresses whose look-up has not been answered yet."""
        return len(self._queue)

    @property
    def refused(self) -> int:
        """Objects that were found and are no pods."""
        return self._query.refused

    def forbidden(self) -> bool:
        """The credential may not look pods up, as far as is known."""
        return self._queue.forbidden()

    def knows(self, address: str, at_us: int) -> bool:
        """What was found answers for a drop at ``at_us``."""
        with self._changed:
            return self._answers.answers(address, at_us)

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` (µs since the epoch) looked up; True while the answer is awaited."""
        with self._changed:
            if self._answers.answers(address, at_us) or self._closed or self._queue.forbidden():
                return False
            if address in self._queue:
                return True
            if self._queue.full():
                self.results["overflow"] += 1
                return False
            self._queue.add(address, self._answers.again_at(address))
            if len(self._threads) < WORKERS:
                name = f"pod-lookup-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
            return True

    def forget(self, address: str) -> None:
        """Somebody else has the address now."""
        with self._changed:
            self._answers.forget(address)

    def close(self, timeout: float = 2.0) -> None:
        """End the threads; a request under way is not waited for any longer than ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- the threads ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (address := self._next()) is not None:
            asked_us = self._clock.now_us()
            try:
                pods = self._query.pods(address)
            except ApiError as error:
                settled = self._failed(address, error)
            else:
                settled = self._answered(address, pods, asked_us)
            if settled is not None and not self._closed:
                self._on_answer(settled)

    def _next(self) -> str | None:
        """Wait for an address whose turn it is; None at the end."""
        with self._changed:
            while not self._closed:
                address, wait = self._queue.next()
                if address is not None:
                    return address
                self._changed.wait(wait)
            return None

    def _answered(self, address: str, pods: list[Pod], asked_us: int) -> frozenset[str]:
        hits = self._found(address, pods, asked_us)
        hit = address in hits
        with self._changed:
            self._queue.answered(address)
            self.results["hit" if hit else "miss"] += 1
            if self._trouble.ends():
                log.info("pods of other nodes can be looked up now")
            for other in hits:
                self._answers.hit(other)
            if not hit:
                self._answers.miss(address, asked_us)
        return hits | {address}

    def _failed(self, address: str, error: ApiError) -> frozenset[str] | None:
        """What is not awaited any more; None where it still is."""
        if error.status == 403:
            return self._refused(address, error)
        with self._changed:
            if self._closed:
                self._queue.dropped(address)
                return None
            self.results["failed"] += 1
            if self._queue.failed(address, transient=error.transient, retry_after=error.retry_after or 0.0):
                return None
            log.debug("giving up looking up %s: %s", address, error)
            self._answers.give_up(address)
            return frozenset((address,))

    def _refused(self, address: str, error: ApiError) -> frozenset[str] | None:
        """As :meth:`_failed`, where the right is missing."""
        with self._changed:
            if self._closed:
                self._queue.dropped(address)
                return None
            self.results["forbidden"] += 1
            self._queue.refused(address)
            begins = self._trouble.begins(str(error))
        if begins:
            log.warning(
                "pods of other nodes are named by their addresses, for they cannot be looked up: %s; %s",
                error,
                self._how_to_grant(),
            )
        return frozenset()
