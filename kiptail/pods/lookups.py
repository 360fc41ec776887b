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
from typing import Any, NamedTuple, Protocol

from cachetools import TTLCache

from kiptail.clock.own import OwnClock
from kiptail.clock.pacing import Backoff, TokenBucket
from kiptail.errors import ApiError
from kiptail.kube.pages import items_of, next_page
from kiptail.pods.pod import Pod
from kiptail.pods.pod_object import reduce_pod

__all__ = ["LookupApi", "Lookups"]

log = logging.getLogger(__name__)

#: A pod that was found is taken for the address's owner so long, in seconds.
HIT_TTL = 30.0
#: That none was found is remembered so long; it answers for drops from before the look-up only.
MISS_TTL = 600.0
MAX_HITS, MAX_MISSES = 4_096, 8_192
#: An address with new drops and no pod is looked up again after so many seconds, and ever more rarely up to …
MISS_PAUSE, MISS_PAUSE_CAP = 10.0, 300.0
#: Look-ups a second, at once, at a time, and waiting.
RATE, BURST, WORKERS, MAX_WAITING = 5.0, 100, 2, 2_048
#: Pods a page: few have the same address, and so small a page takes one seat of the server's fairness queues. At
#: resourceVersion 0 the server answers from memory, and with all of them.
PAGE_LIMIT = 10
MAX_PAGES = 20
#: Pauses while the API server does not answer, in seconds.
BACKOFF_FIRST, BACKOFF_CAP = 0.5, 5.0
#: A missing right is tried again after so many seconds.
FORBIDDEN_RETRY = 600.0
#: A look-up that fails so often by itself is given up.
MAX_FAILURES = 3


class LookupApi(Protocol):
    """What is asked of the API server."""

    def list_pods_page(
        self, *, limit: int, continue_token: str = "", resource_version: str | None = None, field_selector: str = ""
    ) -> dict[str, Any]:
        """One page of a PodList. Raises ApiError."""


class _Miss(NamedTuple):
    #: Drops until then are answered.
    until_us: int
    #: By time.monotonic(): the next look-up, should there be a drop after that.
    again_at: float
    pause: float


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
    ) -> None:
        """The callbacks run in the pool's threads.

        ``found(address, pods, asked_us)`` takes the pods whose first address that is, or was, and tells which
        addresses they have now. ``on_answer(addresses)`` follows: what awaited these can be told. ``how_to_grant()``
        says, when the right to list pods is missing, what to do; it may take a request.
        """
        self._api, self._label, self._clock = api, label, clock or OwnClock()
        self._found, self._on_answer, self._how_to_grant = found, on_answer, how_to_grant
        self._changed = threading.Condition()
        self._hits: TTLCache[str, bool] = TTLCache(MAX_HITS, HIT_TTL)
        self._misses: TTLCache[str, _Miss] = TTLCache(MAX_MISSES, MISS_TTL)
        #: What is to be looked up, and when, by time.monotonic(); in the order of the questions.
        self._due: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._bucket = TokenBucket(RATE, BURST)
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        self._not_before = 0.0
        #: The right is missing: nobody is asked until then.
        self._forbidden_until = 0.0
        self._complained = False
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: Answers by result: hit, miss, forbidden, failed, overflow.
        self.results: Counter[str] = Counter()
        #: Objects that were found and are no pods.
        self.refused = 0

    @property
    def pending(self) -> int:
        """Addresses whose look-up has not been answered yet."""
        return len(self._due) + len(self._under_way)

    def forbidden(self) -> bool:
        """The credential may not look pods up, as far as is known."""
        return time.monotonic() < self._forbidden_until

    def knows(self, address: str, at_us: int) -> bool:
        """What was found answers for a drop at ``at_us``."""
        with self._changed:
            return self._known(address, at_us)

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` (µs since the epoch) looked up; True while the answer is awaited."""
        with self._changed:
            if self._known(address, at_us) or self._closed or time.monotonic() < self._forbidden_until:
                return False
            if address in self._due or address in self._under_way:
                return True
            if len(self._due) >= MAX_WAITING:
                self.results["overflow"] += 1
                return False
            miss = self._misses.get(address)
            self._due[address] = miss.again_at if miss is not None else 0.0
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
            self._hits.pop(address, None)

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

    def _known(self, address: str, at_us: int) -> bool:
        """With the lock held."""
        if address in self._hits:
            return True
        miss = self._misses.get(address)
        return miss is not None and at_us <= miss.until_us

    def _work(self) -> None:
        while (address := self._next()) is not None:
            asked_us = self._clock.now_us()
            try:
                pods = self._look_up(address)
            except ApiError as error:
                told = self._failed(address, error)
            else:
                told = self._answered(address, pods, asked_us)
            if told is not None and not self._closed:
                self._on_answer(told)

    def _next(self) -> str | None:
        """Wait for an address whose turn it is; None at the end."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                address = min(self._due, key=self._due.__getitem__, default=None)
                if address is None:
                    self._changed.wait()
                    continue
                wait = max(self._due[address], self._not_before) - now
                if wait <= 0:
                    wait = self._bucket.delay()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                del self._due[address]
                self._under_way.add(address)
                return address
            return None

    def _look_up(self, address: str) -> list[Pod]:
        pods: list[Pod] = []
        token = ""
        for _ in range(MAX_PAGES):
            page = self._api.list_pods_page(
                limit=PAGE_LIMIT,
                continue_token=token,
                resource_version="0",
                field_selector=f"status.podIP={address}",
            )
            found = [reduce_pod(item, label=self._label) for item in items_of(page)]
            pods += [pod for pod in found if pod is not None]
            self.refused += found.count(None)
            token = next_page(page)
            if not token:
                break
        return pods

    def _answered(self, address: str, pods: list[Pod], asked_us: int) -> frozenset[str]:
        hits = self._found(address, pods, asked_us)
        hit = address in hits
        with self._changed:
            self._under_way.discard(address)
            self._failures.pop(address, None)
            self._backoff.reset()
            self.results["hit" if hit else "miss"] += 1
            if self._complained:
                log.info("pods of other nodes can be looked up now")
                self._complained = False
            for other in hits:
                self._hits[other] = True
                self._misses.pop(other, None)
            if not hit:
                before = self._misses.get(address)
                pause = min(2 * before.pause, MISS_PAUSE_CAP) if before is not None else MISS_PAUSE
                self._hits.pop(address, None)
                self._misses[address] = _Miss(asked_us, time.monotonic() + pause, pause)
        return hits | {address}

    def _failed(self, address: str, error: ApiError) -> frozenset[str] | None:
        """What is not awaited any more; None where it still is."""
        if error.status == 403:
            return self._refused(address, error)
        with self._changed:
            self._under_way.discard(address)
            if self._closed:
                return None
            now = time.monotonic()
            self.results["failed"] += 1
            self._not_before = now + max(self._backoff.pause(), min(error.retry_after or 0.0, 60.0))
            self._failures[address] += 1
            if error.transient or self._failures[address] < MAX_FAILURES:
                # Behind those that were not tried yet.
                self._due[address] = now
                return None
            del self._failures[address]
            log.debug("giving up looking up %s: %s", address, error)
            self._misses[address] = _Miss(0, now + MISS_PAUSE_CAP, MISS_PAUSE_CAP)
            return frozenset((address,))

    def _refused(self, address: str, error: ApiError) -> frozenset[str] | None:
        """As :meth:`_failed`, where the right is missing."""
        with self._changed:
            self._under_way.discard(address)
            if self._closed:
                return None
            self.results["forbidden"] += 1
            self._forbidden_until = time.monotonic() + FORBIDDEN_RETRY
            self._due.clear()
            complained, self._complained = self._complained, True
        if not complained:
            log.warning(
                "pods of other nodes are named by their addresses, for they cannot be looked up: %s; %s",
                error,
                self._how_to_grant(),
            )
        return frozenset()
