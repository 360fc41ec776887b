"""Who owned an IP address at a time (pure).

:class:`Ownership` keeps, for every address, the intervals in which pods had it; :class:`Pod` is what it is fed. What
the intervals of an address say together is worked out anew whenever somebody asks (:mod:`kiptail.pods.tenancy`), so
that the order in which the changes arrived does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kiptail.pods.given_back import judged
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.tenancy import (
    ALWAYS,
    NEVER,
    RESOLUTION_US,
    UNDATED_US,
    Interval,
    Owned,
    boundaries,
    ceil_s,
    changes_of_hands,
    ends,
    floor_s,
    owned,
)

__all__ = [
    "NEVER",
    "Hands",
    "Interval",
    "Owned",
    "Ownership",
    "Pod",
    "PodRef",
    "hands_of",
    "owned",
]

#: So far the clocks of two machines may differ: another node's kubelet, or the API server, and this node's kernel.
CLOCKS_US = 2_000_000

#: A kubelet that kills a pod by force needs so long beyond the grace period.
KILL_US = 2_000_000

#: What a live watch shows is no older than so many µs, where nothing else tells.
NEWS_US = 2_000_000

#: Former owners of one address that are remembered at most, and addresses that any are remembered of.
MAX_FORMER = 8
#: Nodes' addresses that are known at most; a cluster has 5,000 nodes.
MAX_NODES = 65_536
MAX_GONE = 65_536

#: What happened so long before pods were watched for the last time may not have been heard of, in µs.
GAP_US = 60_000_000

#: A pod that went while nobody watched is taken for the owner so long after it was seen last, if no other shows up.
UNWATCHED_US = 3_600_000_000


class Hands(NamedTuple):
    """The times of one address, in their order, µs since the epoch."""

    #: At each another answer begins to who owned it …
    changes: tuple[int, ...] = ()
    #: … and at each it may have been given, or given back.
    boundaries: tuple[int, ...] = ()


def hands_of(intervals: tuple[Interval, ...]) -> Hands:
    """The times at which an address changed hands, or may have."""
    return Hands(changes_of_hands(intervals), boundaries(intervals)) if intervals else Hands()


class Ownership:
    """Intervals of ownership of every address, and the nodes' own addresses.

    Times are µs since the epoch; ``now_us`` is when a change arrived. A pod that is gone stays known until
    :meth:`forget`. Methods that take changes return the addresses of which more, or something else, is known then.
    """

    def __init__(self, *, node: str = "") -> None:
        """``node``: this machine's, whose pods :meth:`take_local` is about."""
        self._node = node
        self._pods: dict[str, Pod] = {}
        #: What the pods there are own, or owned before they finished …
        self._by_address: dict[str, tuple[Interval, ...]] = {}
        #: … and what was owned before.
        self._gone: dict[str, tuple[Interval, ...]] = {}
        self._nodes: dict[str, str] = {}
        self._touched: set[str] = set()
        #: Pods of this node that are about to have an address.
        self._claiming: dict[str, Pod] = {}
        #: From when to when pods may have come and gone of whom nobody ever heard: the latest such time.
        self._gap_us = (0, 0)
        #: Of pods that were restored and that no list has confirmed: when they may have gone at the latest.
        self._unwatched_us: int | None = None

    def __len__(self) -> int:
        return len(self._pods)

    # -- changes --------------------------------------------------------------------------------------------

    def replace(self, pods: Iterable[Pod], *, now_us: int, seen_us: int) -> set[str]:
        """Take over a complete list of the pods there are.

        Those it lacks are gone, nobody knows since when; ``seen_us`` is when they were there for the last time.
        """
        listed = {pod.key: pod for pod in pods}
        self._nodes = {}
        self._claiming = {}
        if seen_us:
            self._gap_us = (seen_us - GAP_US, now_us)
        changed: set[str] = set()
        for pod in listed.values():
            changed |= self.put(pod, now_us=now_us, live=False)
        for key in [key for key in self._pods if key not in listed]:
            changed |= self.vanished(key, now_us=now_us, seen_us=seen_us)
        self._unwatched_us = None
        return changed

    def put(self, pod: Pod, *, now_us: int, live: bool) -> set[str]:
        """A pod was added or changed; ``live`` when a watch saw it happen, so that ``now_us`` dates it."""
        for address in pod.host_addresses:
            if len(self._nodes) < MAX_NODES or address in self._nodes:
                self._nodes[address] = pod.node
        pod = pod._replace(host_addresses=())  # kept once for all pods of the node
        before = self._pods.get(pod.key)
        pod = judged(pod, before)
        if before == pod:
            return set()
        if pod.claiming and pod.node == self._node != "":
            self._claiming[pod.key] = pod
        else:
            self._claiming.pop(pod.key, None)
        if before is not None and before._replace(ref=pod.ref) == pod:
            self._pods[pod.key] = pod
            self._rename(pod)
            return set()
        changed: set[str] = set()
        for address in before.addresses if before else ():
            if address not in pod.addresses:  # the same pod, with another address: its sandbox was made anew
                until_us = now_us if pod.ready_us is None else min(now_us, pod.ready_us + RESOLUTION_US)
                changed |= self._close(address, pod.key, None, until_us)
        self._pods[pod.key] = pod
        for address in pod.addresses:
            changed |= self._claim(address, pod, before, now_us, live)
        return changed

    def remove(self, key: str, *, now_us: int, live: bool = True) -> set[str]:
        """The pod with this ``metadata.uid`` was deleted, at ``now_us`` or, unless ``live``, some time before.

        By force, perhaps, so that its containers outlive it: they have its grace period.
        """
        pod = self._pods.get(key)
        if pod is None:
            return set()
        self._claiming.pop(key, None)
        held_us: int | None
        if pod.stopped_us is not None:
            held_us, until_us = self._ended(pod, pod.stopped_us)
        elif pod.asked_us is not None:
            held_us = pod.asked_us - CLOCKS_US
            until_us = min(now_us, pod.asked_us + CLOCKS_US) + pod.grace_us + KILL_US
        else:
            # Without a sandbox it may have had the addresses no longer, although the object was there.
            held_us = now_us - NEWS_US if live and not pod.leaving else None
            until_us = now_us + pod.grace_us + KILL_US
        changed: set[str] = set()
        for address in pod.addresses:
            changed |= self._close(address, key, held_us, until_us)
        del self._pods[key]
        return changed

    def vanished(self, key: str, *, now_us: int, seen_us: int) -> set[str]:
        """The pod with this ``metadata.uid`` is gone, and nobody saw it go; at ``seen_us`` it was there."""
        pod = self._pods.get(key)
        if pod is None:
            return set()
        self._claiming.pop(key, None)
        until_us = now_us if self._unwatched_us is None else min(now_us, self._unwatched_us)
        changed: set[str] = set()
        for address in pod.addresses:
            changed |= self._close(address, key, seen_us, until_us, unseen=True)
        del self._pods[key]
        return changed

    # -- questions ------------------------------------------------------------------------------------------

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """All that is known of the address."""
        return (*self._gone.get(address, ()), *self._by_address.get(address, ()))

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned ``address`` at ``at_us``."""
        return owned(self.intervals(address), at_us)

    def claimed(self, at_us: int) -> bool:
        """A pod of this node was, or is, about to be given some address at ``at_us``."""
        return any((pod.start_us or 0) <= at_us for pod in self._claiming.values())

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""
        return self._nodes.get(address, "")

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return any(pod.node == name for pod in self._pods.values())

    def probes(self, key: str) -> tuple[int, ...]:
        """The ports that probes of the pod with this ``metadata.uid`` use."""
        pod = self._pods.get(key)
        return pod.probes if pod is not None else ()

    # -- memory ---------------------------------------------------------------------------------------------

    def forget(self, before_us: int) -> None:
        """No drop from before ``before_us`` will be asked about any more."""
        for address in list(self._gone):
            gone = self._gone[address]
            # Who came after somebody who is still there may be all that shows until when that one had the address.
            first_us = min((i.sure_us for i in self._by_address.get(address, ())), default=NEVER)
            ended = zip(gone, ends(self.intervals(address)), strict=False)
            kept = tuple(i for i, end_us in ended if end_us >= before_us or i.sure_us > first_us)
            if len(kept) < len(gone):
                self._touch(address, gone)
                if kept:
                    self._gone[address] = kept
                else:
                    del self._gone[address]

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """All that is known of this node's pods, for each address of which that changed since the last call."""
        touched, self._touched = self._touched, set()
        return {address: tuple(i for i in self.intervals(address) if i.local) for address in touched}

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """Know again what :meth:`take_local` gave; before the first list, which will say who of them is left.

        ``seen_us`` is when anything was known of these pods last.
        """
        self._unwatched_us = seen_us + UNWATCHED_US
        for address, interval in sorted(intervals, key=lambda entry: entry[1].since_us):
            key = interval.key
            known = self._pods.get(key)
            if known is not None and address in known.addresses:  # it had the address twice
                former = next(i for i in self._by_address[address] if i.key == key)
                over_us = interval.since_us if former.until_us is None else former.until_us
                self._retire(
                    address, former._replace(held_us=min(former.held_us or over_us, over_us), until_us=over_us)
                )
                self._by_address[address] = tuple(i for i in self._by_address[address] if i is not former)
            addresses = dict.fromkeys((*(known.addresses if known else ()), address))
            self._pods[key] = Pod(key, interval.ref, tuple(addresses), None, None, None, False, self._node, ())
            self._by_address[address] = (*self._by_address.get(address, ()), interval._replace(local=True))

    # -- one address ----------------------------------------------------------------------------------------

    def _claim(self, address: str, pod: Pod, before: Pod | None, now_us: int, live: bool) -> set[str]:
        """``pod`` shows the address as its own."""
        intervals = self._by_address.get(address, ())
        mine = next((i for i in intervals if i.key == pod.key), None)
        others = tuple(i for i in intervals if i is not mine)
        if mine is not None and mine.until_us is not None and self._has_again(pod, mine.until_us):
            self._retire(address, mine)
            mine = None
        since_us, sure_us = self._begin(
            pod, now_us, live, moved=mine is not None or (before is not None and bool(before.addresses))
        )
        former = [i.until_us or 0 for i in self._gone.get(address, ()) if i.key == pod.key]
        since_us = max([since_us, *former])
        sure_us = max(since_us, sure_us)
        if mine is not None and not _begin_is_known(pod):
            since_us, sure_us = mine.since_us, mine.sure_us
        elif mine is not None and mine.sure_us - mine.since_us < UNDATED_US:
            since_us, sure_us = min(since_us, mine.since_us), min(sure_us, mine.sure_us)
        held_us, until_us, unseen = self._end(pod, mine, now_us, live)
        if held_us is not None:
            held_us = max(held_us, since_us)
        if until_us is not None:
            until_us = max(until_us, (held_us or 0) + RESOLUTION_US)
            sure_us = min(sure_us, until_us)
        local = pod.node == self._node != ""
        after_gap = local and self._gap_us[0] <= since_us < self._gap_us[1]
        if mine is not None:
            after_gap = mine.after_gap
        interval = Interval(pod.key, pod.ref, since_us, sure_us, held_us, until_us, unseen, local, after_gap)
        if interval == mine:
            return set()
        self._by_address[address] = (*others, interval)
        self._touch(address, (interval,))
        return {address}

    def _has_again(self, pod: Pod, until_us: int) -> bool:
        """The address was given to the pod a second time, after ``until_us``: it has it, or has finished later."""
        if pod.lost_us is None and (pod.until_us is None or pod.released):
            return not pod.released and (pod.runs or not pod.blank)
        return (
            pod.until_us is not None and pod.running_us is not None and pod.running_us >= until_us - self._margin(pod)
        )

    def _begin(self, pod: Pod, now_us: int, live: bool, *, moved: bool) -> tuple[int, int]:
        """Since when a pod has an address that it shows for the first time: no earlier, and no later.

        ``moved``: it had others before.
        """
        margin_us = self._margin(pod)
        if _begin_is_known(pod):
            # Kubelets before 1.35 tell that the sandbox is ready only when the containers have been started, and those
            # before 1.29 never do. Without that, an earlier run of a container was in the same sandbox, or in another.
            signs = [pod.ready_us, pod.running_us, pod.ran_us if pod.ready_us is None and not moved else None]
            began_us = min(us for us in signs if us is not None)
            began_us = min(began_us, floor_s(now_us))  # later than now: a clock is wrong
            return began_us - margin_us, min(began_us + RESOLUTION_US + margin_us, ceil_s(now_us))
        since_us = ALWAYS if pod.start_us is None else min(pod.start_us, floor_s(now_us))
        if live:
            # Not the start of one that has just appeared: until its sandbox was ready, another may have had it.
            return max(since_us, floor_s(now_us - NEWS_US)), ceil_s(now_us)
        return since_us, floor_s(now_us)  # it was there before it was listed

    def _end(self, pod: Pod, mine: Interval | None, now_us: int, live: bool) -> tuple[int | None, int | None, bool]:
        """Until when a pod has the addresses that it shows: surely, at the latest, and whether nobody saw that end."""
        if pod.until_us is not None and not pod.released:
            held_us, until_us = self._ended(pod, pod.until_us)
            return min(held_us, floor_s(now_us)), min(until_us, ceil_s(now_us)), False
        if pod.released:  # more exact than the object: it was seen, now or before, or missed just now
            if mine is not None and mine.until_us is not None:
                return mine.held_us, mine.until_us, mine.unseen_end
            last_us = floor_s(min(pod.until_us or 0, now_us)) - self._margin(pod)
            if mine is None:
                return last_us, floor_s(min(pod.until_us or 0, now_us)) + RESOLUTION_US, False
            if live:
                return last_us, ceil_s(now_us), False
            limit_us = now_us if self._unwatched_us is None else min(now_us, self._unwatched_us)
            return last_us, ceil_s(limit_us), True
        sure_us = mine.sure_us if mine is not None else ALWAYS
        if pod.lost_us is not None:
            held_us, until_us = self._ended(pod, pod.lost_us)
            held_us = sure_us if pod.stopped_us is None else min(held_us, self._ended(pod, pod.stopped_us)[0])
            return held_us, min(until_us, ceil_s(now_us)), False
        if mine is not None and mine.until_us is not None:  # known from an earlier run, and nothing speaks against it
            return mine.held_us, mine.until_us, mine.unseen_end
        if pod.leaving:
            return sure_us if pod.asked_us is None else floor_s(pod.asked_us) - CLOCKS_US, None, False
        return None, None, False

    def _ended(self, pod: Pod, at_us: int) -> tuple[int, int]:
        """The bounds of an end that the kubelet dated."""
        margin_us = self._margin(pod)
        return floor_s(at_us) - margin_us, floor_s(at_us) + RESOLUTION_US + margin_us

    def _margin(self, pod: Pod) -> int:
        """How far the clock that dates this pod's times may be off ours."""
        return 0 if pod.node == self._node != "" else CLOCKS_US

    def _close(self, address: str, key: str, held_us: int | None, until_us: int, *, unseen: bool = False) -> set[str]:
        """The pod no longer has the address; what an earlier change told of its end is more exact."""
        intervals = self._by_address.get(address, ())
        mine = next((i for i in intervals if i.key == key), None)
        if mine is None:
            return set()
        others = tuple(i for i in intervals if i is not mine)
        if others:
            self._by_address[address] = others
        else:
            del self._by_address[address]
        if mine.until_us is None:
            until_us = max(ceil_s(until_us), mine.since_us)
            known_us = mine.held_us if mine.held_us is not None else mine.sure_us
            held_us = known_us if held_us is None else max(floor_s(held_us), min(known_us, mine.sure_us))
            mine = mine._replace(
                held_us=min(held_us, until_us),
                until_us=until_us,
                sure_us=min(mine.sure_us, until_us),
                unseen_end=unseen,
            )
        self._retire(address, mine)
        return {address}

    def _retire(self, address: str, interval: Interval) -> None:
        """Remember it among those that are gone: the latest few of an address, of the latest addresses."""
        former = self._gone.pop(address, ())
        self._gone[address] = (*former[1 - MAX_FORMER :], interval)
        self._touch(address, (interval,))
        while len(self._gone) > MAX_GONE:
            oldest = next(iter(self._gone))
            self._touch(oldest, self._gone.pop(oldest))

    def _rename(self, pod: Pod) -> None:
        for address in pod.addresses:
            renamed = tuple(
                i._replace(ref=pod.ref) if i.key == pod.key else i for i in self._by_address.get(address, ())
            )
            self._by_address[address] = renamed
            self._touch(address, renamed)

    def _touch(self, address: str, intervals: Iterable[Interval]) -> None:
        if any(interval.local for interval in intervals):
            self._touched.add(address)


def _begin_is_known(pod: Pod) -> bool:
    """The object dates when the pod's network was there, instead of only when its kubelet accepted it."""
    return pod.ready_us is not None or pod.running_us is not None
