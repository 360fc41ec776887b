"""Who owned an IP address at a time (pure).

:class:`Ownership` keeps, for every address, the intervals in which pods owned it; :class:`Pod` is what it is fed.
Whatever an interval lacks is decided when it is asked for, from all that is known of the address by then, so that
the order in which the news arrived does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableMapping
from typing import NamedTuple

from kiptail.pod import Pod, PodRef, reduce_pod, timestamp_us

__all__ = ["Handover", "Interval", "Ownership", "Pod", "PodRef", "reduce_pod", "timestamp_us"]

#: Clocks of kubelet, API server and kernel agree to about this; within it of a change of hands nobody is sure.
SLACK_US = 2_000_000

#: Former owners of one address that are remembered at most, and addresses that any are remembered of.
MAX_FORMER = 8
MAX_GONE = 65_536

#: A pod that went while nobody watched is taken for the owner so long after the last news of it, if no other shows up.
UNWATCHED_US = 3_600_000_000


class Interval(NamedTuple):
    """``ref`` owned an address from ``since_us`` until ``until_us`` (None: it still does)."""

    key: str
    ref: PodRef
    since_us: int
    until_us: int | None
    #: Nobody saw the end: it was at ``until_us`` or before, and before anybody else had the address.
    unseen_end: bool = False
    #: When it had the address for sure, if ``since_us`` is only when the kubelet accepted it; None = at ``since_us``.
    sure_us: int | None = None
    #: The pod ran on this node.
    local: bool = False


class Handover(NamedTuple):
    """An address got an owner, another owner, or none."""

    address: str
    at_us: int


class Ownership:
    """Intervals of ownership of every address, and the nodes' own addresses.

    Times are µs since the epoch; ``now_us`` is when the news arrived. A pod that is gone stays known until
    :meth:`forget`, or as long as ``gone`` keeps its address.
    """

    def __init__(self, *, gone: MutableMapping[str, tuple[Interval, ...]] | None = None, node: str = "") -> None:
        """``node``: the node whose pods :meth:`take_local` is about."""
        self._node = node
        self._pods: dict[str, Pod] = {}
        #: What the pods there are own, or owned before they finished …
        self._by_address: dict[str, tuple[Interval, ...]] = {}
        #: … and what was owned before.
        self._gone = {} if gone is None else gone
        self._nodes: dict[str, str] = {}
        self._touched: set[str] = set()
        #: Of pods that were restored and that no list has confirmed: when they may have gone at the latest.
        self._unwatched_us: int | None = None

    def __len__(self) -> int:
        return len(self._pods)

    # -- news -----------------------------------------------------------------------------------------------

    def replace(self, pods: Iterable[Pod], *, now_us: int) -> list[Handover]:
        """Take over a complete list of the pods there are: those it lacks are gone, since when nobody knows."""
        listed = {pod.key: pod for pod in pods}
        self._nodes = {}
        changed: dict[str, int] = {}
        for pod in listed.values():
            for address, at_us in self.put(pod, now_us=now_us, live=False):
                changed[address] = max(at_us, changed.get(address, 0))
        for key in [key for key in self._pods if key not in listed]:
            for address, at_us in self.remove(key, now_us=now_us, live=False):
                changed[address] = max(at_us, changed.get(address, 0))
        self._unwatched_us = None
        return [Handover(address, at_us) for address, at_us in changed.items()]

    def put(self, pod: Pod, *, now_us: int, live: bool) -> list[Handover]:
        """A pod was added or changed; ``live`` when a watch saw it happen, so that ``now_us`` dates it."""
        for address in pod.host_addresses:
            self._nodes[address] = pod.node
        pod = pod._replace(host_addresses=())  # kept once for all pods of the node
        before = self._pods.get(pod.key)
        if before == pod:
            return []
        if before is not None and before._replace(ref=pod.ref) == pod:
            self._pods[pod.key] = pod
            self._rename(pod)
            return []
        addresses = dict.fromkeys((*(before.addresses if before else ()), *pod.addresses))
        held = {address: self._holders(address) for address in addresses}
        changed: dict[str, int] = {}
        for address in addresses:
            if address not in pod.addresses:  # the same pod, with another address: its sandbox was made anew
                at_us = now_us if pod.ready_us is None else min(now_us, pod.ready_us)
                changed |= self._close(address, pod.key, at_us, unseen=not live)
        self._pods[pod.key] = pod
        for address in pod.addresses:
            changed |= self._claim(address, pod, now_us, live)
        # Another one may own an address alone now, or no longer, because this pod is leaving, or has come back.
        changed |= {a: now_us for a in addresses if a not in changed and self._holders(a) != held[a]}
        return [Handover(address, at_us) for address, at_us in changed.items()]

    def remove(self, key: str, *, now_us: int, live: bool = True) -> list[Handover]:
        """The pod with this ``metadata.uid`` is gone; ``live`` when a watch saw it go."""
        pod = self._pods.get(key)
        changed: dict[str, int] = {}
        for address in pod.addresses if pod else ():
            changed |= self._close(address, key, now_us, unseen=not live)
        self._pods.pop(key, None)
        return [Handover(address, at_us) for address, at_us in changed.items()]

    # -- questions ------------------------------------------------------------------------------------------

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """The pods that may have owned ``address`` at ``at_us``: none, the owner, or several (ambiguous)."""
        intervals = self._known(address)
        found = {
            # By what an Event says of it: a mirror pod that was made anew is the same static pod.
            interval.ref[:3]: interval.ref
            for interval in intervals
            if interval.since_us - SLACK_US <= at_us <= self._end(interval, intervals) + SLACK_US
        }
        return tuple(found.values())

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""
        return self._nodes.get(address, "")

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return any(pod.node == name for pod in self._pods.values())

    # -- memory ---------------------------------------------------------------------------------------------

    def forget(self, before_us: int) -> None:
        """No drop from before ``before_us`` will be asked about any more."""
        for address in list(self._gone):
            intervals, gone = self._known(address), self._gone[address]
            # Who came after somebody who is still there may be all that shows until when that one had the address.
            first_us = min(map(_sure_us, self._by_address.get(address, ())), default=math.inf)
            kept = tuple(i for i in gone if self._end(i, intervals) + SLACK_US >= before_us or _sure_us(i) > first_us)
            if len(kept) < len(gone):
                self._touch(address, gone)
                if kept:
                    self._gone[address] = kept
                else:
                    del self._gone[address]

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """All that is known of this node's pods, for each address of which that changed since the last call."""
        touched, self._touched = self._touched, set()
        return {address: tuple(i for i in self._known(address) if i.local) for address in touched}

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """Know again what :meth:`take_local` told; before the first list, which will say who of them is left.

        ``seen_us`` is when there was news of these pods last.
        """
        self._unwatched_us = seen_us + UNWATCHED_US
        for address, interval in sorted(intervals, key=lambda entry: entry[1].since_us):
            key, until = interval.key, interval.until_us
            known = self._pods.get(key)
            if known is not None and address in known.addresses:  # it had the address twice
                former = next(i for i in self._by_address[address] if i.key == key)
                self._retire(address, former._replace(until_us=former.until_us or interval.since_us))
                self._by_address[address] = tuple(i for i in self._by_address[address] if i is not former)
            addresses = dict.fromkeys((*(known.addresses if known else ()), address))
            self._pods[key] = Pod(key, interval.ref, tuple(addresses), None, None, until, False, self._node, ())
            self._by_address[address] = (*self._by_address.get(address, ()), interval._replace(local=True))

    # -- one address ----------------------------------------------------------------------------------------

    def _known(self, address: str) -> tuple[Interval, ...]:
        return (*self._gone.get(address, ()), *self._by_address.get(address, ()))

    def _end(self, interval: Interval, rivals: Iterable[Interval]) -> float:
        """When the ownership ended, in the light of who else had the address; inf: it did not.

        An address is given to one pod at a time, so whoever had it for sure ended the ownership of anyone before who
        is gone or leaving. Two that both mean to stay are not told apart.
        """
        end = math.inf if interval.until_us is None else interval.until_us
        if interval.until_us is None and not self._pods[interval.key].leaving:
            return end
        had_us = _sure_us(interval)
        for rival in rivals:
            came = (rival.since_us, _sure_us(rival)) if interval.unseen_end else (_sure_us(rival),)
            end = min([end, *(at_us for at_us in came if at_us > had_us)])
        return end

    def _holders(self, address: str) -> set[str]:
        """Who owns it now."""
        intervals = self._known(address)
        return {i.key for i in self._by_address.get(address, ()) if self._end(i, intervals) == math.inf}

    def _claim(self, address: str, pod: Pod, now_us: int, live: bool) -> dict[str, int]:
        """``pod`` shows the address as its own; returns the change of hands, if it is one."""
        intervals = self._by_address.get(address, ())
        mine = next((i for i in intervals if i.key == pod.key), None)
        others = tuple(i for i in intervals if i is not mine)
        until, unseen = pod.until_us, False
        since = _start(pod, now_us, live)
        if mine is not None and mine.until_us is not None and until is None:
            self._retire(address, mine)  # it was given back, and given to it again
            mine = None
        if mine is None:
            since = max([since, *(i.until_us or 0 for i in self._gone.get(address, ()) if i.key == pod.key)])
        else:
            since = mine.since_us
            if pod.released:  # more exact than the object: it was seen, now or before, or missed just now
                until, unseen = mine.until_us, mine.unseen_end
                if until is None:
                    until, unseen = (now_us, False) if live else (self._unseen_us(now_us), True)
        if until is not None:
            until = max(min(until, now_us), since)
        sure = mine.sure_us if mine is not None else None
        if mine is None and not live and pod.ready_us is None:
            sure = now_us if until is None else until
        interval = Interval(pod.key, pod.ref, since, until, unseen, sure, pod.node == self._node != "")
        self._by_address[address] = (*others, interval)
        self._touch(address, (interval,))
        if mine is None:
            return {address: since if until is None else until}
        return {address: until} if until is not None and mine.until_us is None else {}

    def _close(self, address: str, key: str, at_us: int, *, unseen: bool) -> dict[str, int]:
        """The pod no longer has the address; returns the change of hands, if it is one."""
        intervals = self._by_address.get(address, ())
        mine = next((i for i in intervals if i.key == key), None)
        if mine is None:
            return {}
        held = key in self._holders(address)
        others = tuple(i for i in intervals if i is not mine)
        if others:
            self._by_address[address] = others
        else:
            del self._by_address[address]
        if mine.until_us is None:
            until = self._unseen_us(at_us) if unseen else at_us
            mine = mine._replace(until_us=max(until, mine.since_us), unseen_end=unseen)
        self._retire(address, mine)
        # Who came dates the change better than the list that lacks who went.
        return {address: int(self._end(mine, self._known(address))) if unseen else at_us} if held else {}

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

    def _unseen_us(self, now_us: int) -> int:
        """When somebody may have gone at the latest whose end nobody saw."""
        return now_us if self._unwatched_us is None else min(now_us, self._unwatched_us)


def _start(pod: Pod, now_us: int, live: bool) -> int:
    """Since when a pod has the addresses that it shows for the first time."""
    if pod.ready_us is not None:
        return min(now_us, pod.ready_us)
    # Not the start of one that has just appeared: until its sandbox was ready, another may have had the address.
    return now_us if live else min(now_us, pod.start_us or 0)


def _sure_us(interval: Interval) -> int:
    return interval.since_us if interval.sure_us is None else interval.sure_us
