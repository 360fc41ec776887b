"""Keeps the local copy of pods current: those of a node or of the whole cluster, listed once and then watched.

The watch loop is our own: it goes on from the last resourceVersion after every kind of interruption, lists anew
only when the server no longer knows that version, and never tries faster than its back-off.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from kiptail.clock.own import OwnClock
from kiptail.clock.pacing import Backoff
from kiptail.clock.trouble import Trouble
from kiptail.errors import ApiError
from kiptail.kube.errors import bad_answer
from kiptail.pods.listwatch import PodApi, PodFeed
from kiptail.pods.local import Learned, LocalPods
from kiptail.pods.ranges import PodRanges
from kiptail.pods.traits import SharedTraits

__all__ = ["Hooks", "Reflector"]

log = logging.getLogger(__name__)

#: Pauses between tries, in seconds.
BACKOFF_FIRST, BACKOFF_CAP = 0.5, 5.0
#: A watch that lasted longer worked, in seconds: the next trouble begins with the shortest pause again.
WATCH_THAT_WORKS = 5.0
#: Seconds until a missing right is tried again.
FORBIDDEN_RETRY = 60.0
#: Seconds after it was opened when a watch shows changes as they happen, and no longer those that were missed.
CATCHING_UP = 1.0
#: Where a line of a watch was passed over, a change may be missing, and all pods are listed anew when the watch has
#: ended. The shortest time between two such lists, in seconds.
GAP_RELIST = 300.0


class Hooks(NamedTuple):
    """What is called when something was heard of pods; the callbacks run in the thread that heard it."""

    #: With the addresses of which more, or something else, is known than before.
    on_change: Callable[[set[str]], None]
    #: All pods were listed for the first time.
    on_ready: Callable[[], None]
    #: An address turned out to be a node's.
    on_nodes: Callable[[], None]
    #: With a word for why the watch was interrupted, for a metric.
    observe: Callable[[str], None]
    #: As ``on_change``, of addresses that pods' annotations tell of.
    on_claims: Callable[[set[str]], None] = lambda addresses: None


class _Gaps:
    """Lines of watches that were passed over: when all pods are to be listed anew for what may be missing."""

    def __init__(self) -> None:
        self._open = False
        self._not_before = 0.0

    def due(self, passed_over: bool) -> bool:
        """A watch is over, and lines of it were ``passed_over``: whether it is time for a list."""
        self._open = self._open or passed_over
        if not self._open or time.monotonic() < self._not_before:
            return False
        self._open, self._not_before = False, time.monotonic() + GAP_RELIST
        return True


class Reflector:
    """Lists the pods of the cluster or, with a ``field_selector``, some of them, and follows changes; a thread."""

    def __init__(
        self,
        api: PodApi,
        pods: LocalPods,
        *,
        field_selector: str = "",
        label: str | None,
        node: str,
        ranges: PodRanges,
        hooks: Hooks,
        clock: OwnClock,
        traits: SharedTraits | None = None,
    ) -> None:
        """``pods`` is what is kept current; ``ranges`` hears of all their addresses. ``node``: this machine's.

        ``traits``: as for :func:`~kiptail.pods.pod_object.reduce_pod`.
        """
        self._feed = PodFeed(api, field_selector=field_selector, label=label, node=node, clock=clock, traits=traits)
        self._partial = bool(field_selector)
        self._pods = pods
        self._ranges = ranges
        self._hooks = hooks
        self._stop = threading.Event()
        #: Where to watch on; "" = all pods are to be listed first.
        self._resource_version = ""
        #: The server was away, and may have been restored to an older version.
        self._suspect = False
        self._gaps = _Gaps()
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        self._trouble = Trouble()
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

    @property
    def trouble(self) -> str:
        """Why the pods are not followed at present, or ""."""
        return self._trouble.text

    @property
    def refused(self) -> int:
        """Pods and lines that were not what they should be and were passed over."""
        return self._feed.refused

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
        learned = self._pods.replace(pods)
        self._resource_version = version
        self._pods.freshness.heard()
        self._report(learned)
        log.info("%d pods listed", len(pods))
        if self._pods.freshness.listed():
            self._hooks.on_ready()

    def _watch(self) -> None:
        lines, begin, expired = 0, time.monotonic(), False
        was_garbled = self._feed.changes.garbled
        try:
            with self._feed.watch(self._resource_version) as stream:
                self._pods.freshness.follow(True)
                live_at = time.monotonic() + CATCHING_UP
                if not was_garbled:
                    self._recovered()
                for line in stream:
                    if self._stop.is_set():
                        return
                    self._take(line, live_at)
                    lines += 1
            if self._feed.changes.garbled:
                raise bad_answer("cannot watch pods", "is no watch")
            self._recovered()
        except ApiError as error:
            expired = error.status == 410
            if error.silent and not lines:
                # Neither a change nor a bookmark: the server may have been restored to an older version, and a
                # watch from its future stays silent for ever. A list tells.
                self._resource_version = ""
            raise
        finally:
            self._pods.freshness.interrupted(expired=expired)
            if self._gaps.due(self._feed.changes.gaps):
                self._resource_version = ""
                self._hooks.observe("garbage")
                log.warning(
                    "some of what the watch of pods showed was passed over, for it made no sense; listing all anew"
                )
            if time.monotonic() - begin > WATCH_THAT_WORKS:
                self._backoff.reset()
        if not self._stop.is_set():
            self._hooks.observe("ended")
        # A server that ends every stream at once is not asked again at once.
        self._pause(self._backoff.pause())

    def _take(self, line: bytes, live_at: float) -> None:
        """One line of the watch, which shows changes as they happen from ``live_at`` on. Raises ApiError."""
        change = self._feed.changes.read(line)
        # As long as nothing of a stream is understood, no news arrives.
        self._pods.freshness.follow(not self._feed.changes.garbled)
        if not self._feed.changes.garbled:
            self._recovered()
        if change.bad:
            log.debug("a line of the watch is passed over: %s", change.bad)
        if change.pod is not None:
            self._ranges.note_pods(change.pod.addresses)
        learned = self._pods.change(change.pod, change.gone, live=time.monotonic() >= live_at)
        if change.version:
            self._resource_version = change.version
        if not change.bad:
            self._pods.freshness.heard()
        self._report(learned)
        if len(self._pods) > self._feed.most:
            self._resource_version = ""
            raise bad_answer("cannot watch pods", f"has more than {self._feed.most} pods")

    def _report(self, learned: Learned) -> None:
        if learned.addresses:
            self._hooks.on_change(learned.addresses)
        if learned.claims:
            self._hooks.on_claims(learned.claims)
        if learned.nodes:
            self._hooks.on_nodes()

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
            if self._trouble.begins(str(error)):
                log.warning("the pods cannot be followed at present, trying again: %s", error)
        self._hooks.observe(_reason(error))
        self._pause(pause)

    def _recovered(self) -> None:
        if self._trouble.ends():
            log.info("the pods can be followed again")

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)


def _reason(error: ApiError) -> str:
    """One of a few words, for a metric."""
    if error.silent:
        return "silent"
    if error.reason == "BadResponse":
        return "garbage"
    if error.unreachable:
        return "unreachable"
    return {401: "unauthorized", 403: "forbidden", 410: "expired", 429: "throttled"}.get(error.status or 0, "error")
