"""Who owned an IP address at a time (pure).

:class:`Ownership` is fed with pods, and keeps for every address the intervals in which pods had it
(:mod:`kiptail.pods.register`), with the bounds that the pods tell (:mod:`kiptail.pods.evidence`). What the intervals of
an address say together is worked out anew whenever somebody asks (:mod:`kiptail.pods.tenancy`), so that the order in
which the changes arrived does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kiptail.pods import evidence
from kiptail.pods.evidence import Seen
from kiptail.pods.given_back import judged
from kiptail.pods.opt_out import OptOuts
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.register import IntervalRegister
from kiptail.pods.tenancy import (
    NEVER,
    RESOLUTION_US,
    UNDATED_US,
    Interval,
    Owned,
    boundaries,
    changes_of_hands,
    owned,
)

__all__ = ["NEVER", "Hands", "Interval", "Owned", "Ownership", "Pod", "PodRef", "hands_of", "owned"]

#: Nodes' addresses that are known at most; a cluster has 5,000 nodes.
MAX_NODES = 65_536

#: What happened in this time before pods were watched for the last time may not have been heard of, in µs.
GAP_US = 60_000_000

#: How long after it was seen last a pod that went while nobody watched is taken for the owner, if no other shows up,
#: in µs.
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
    :meth:`IntervalRegister.forget`. Methods that take changes return the addresses of which more, or something else,
    is known then.
    """

    def __init__(self, *, node: str = "") -> None:
        """``node``: this machine's, whose pods' intervals are marked as local."""
        self._node = node
        self._pods: dict[str, Pod] = {}
        #: Who had which address when.
        self.register = IntervalRegister()
        self._nodes: dict[str, str] = {}
        #: Whose owners opted out of Events.
        self.opt_outs = OptOuts()
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
        self.opt_outs.note(pod.ref[:3], pod.opt_out)
        same = before is not None and before._replace(
            ref=pod.ref, traits=pod.traits, claims=pod.claims, opt_out=pod.opt_out
        )
        if before is not None and same == pod:
            self._pods[pod.key] = pod
            for address in pod.addresses:
                self.register.rename(address, pod.key, pod.ref)
            return set()
        changed: set[str] = set()
        for address in before.addresses if before else ():
            if address not in pod.addresses:  # the same pod, with another address: its sandbox was made anew
                until_us = now_us if pod.ready_us is None else min(now_us, pod.ready_us + RESOLUTION_US)
                changed |= {address} if self.register.close(address, pod.key, None, until_us) else set()
        self._pods[pod.key] = pod
        for address in pod.addresses:
            changed |= self._claim(address, pod, before, self._seen(pod, now_us, live=live))
        return changed

    def remove(self, key: str, *, now_us: int, live: bool = True) -> set[str]:
        """The pod with this ``metadata.uid`` was deleted, at ``now_us`` or, unless ``live``, some time before."""
        pod = self._pods.get(key)
        if pod is None:
            return set()
        return self._gone(pod, *evidence.deleted(pod, self._seen(pod, now_us, live=live)))

    def vanished(self, key: str, *, now_us: int, seen_us: int) -> set[str]:
        """The pod with this ``metadata.uid`` is gone, and nobody saw it go; at ``seen_us`` it was there."""
        pod = self._pods.get(key)
        if pod is None:
            return set()
        return self._gone(pod, seen_us, self._seen(pod, now_us, live=False).limit_us, unseen=True)

    # -- questions ------------------------------------------------------------------------------------------

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned ``address`` at ``at_us``."""
        return owned(self.register.intervals(address), at_us)

    def claimed(self, at_us: int) -> bool:
        """A pod of this node was, or is, about to be given some address at ``at_us``."""
        return any((pod.start_us or 0) <= at_us for pod in self._claiming.values())

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""
        return self._nodes.get(address, "")

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return any(pod.node == name for pod in self._pods.values())

    def pods_at(self, address: str) -> list[Pod]:
        """The pods that have the address, or had it, as they are now; not those that are gone."""
        keys = dict.fromkeys(interval.key for interval in self.register.intervals(address))
        return [self._pods[key] for key in keys if key in self._pods]

    # -- memory ---------------------------------------------------------------------------------------------

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """Know again what :meth:`IntervalRegister.take_local` gave; a list follows, which says who of them is left.

        ``seen_us`` is when anything was known of these pods last.
        """
        self._unwatched_us = seen_us + UNWATCHED_US
        for address, interval in sorted(intervals, key=lambda entry: entry[1].since_us):
            key = interval.key
            known = self._pods.get(key)
            former = self.register.present(address, key)
            if former is not None:  # it had the address twice
                over_us = interval.since_us if former.until_us is None else former.until_us
                ended = former._replace(held_us=min(former.held_us or over_us, over_us), until_us=over_us)
                self.register.retire(address, ended)
            addresses = dict.fromkeys((*(known.addresses if known else ()), address))
            self._pods[key] = Pod(
                key, interval.ref, tuple(addresses), None, None, None, False, self._node, (), opt_out=None
            )
            self.register.restore(address, interval._replace(local=True))

    # -- one pod --------------------------------------------------------------------------------------------

    def _claim(self, address: str, pod: Pod, before: Pod | None, seen: Seen) -> set[str]:
        """``pod`` shows the address as its own."""
        mine = self.register.present(address, pod.key)
        if (
            mine is not None
            and mine.until_us is not None
            and evidence.has_again(pod, mine.until_us, margin_us=seen.margin_us)
        ):
            self.register.retire(address, mine)
            mine = None
        moved = mine is not None or (before is not None and bool(before.addresses))
        since_us, sure_us = evidence.begin(pod, seen, moved=moved)
        since_us = max(since_us, self.register.former_us(address, pod.key))
        sure_us = max(since_us, sure_us)
        if mine is not None and not evidence.begin_is_known(pod):
            since_us, sure_us = mine.since_us, mine.sure_us
        elif mine is not None and mine.sure_us - mine.since_us < UNDATED_US:
            since_us, sure_us = min(since_us, mine.since_us), min(sure_us, mine.sure_us)
        held_us, until_us, unseen = evidence.end(pod, seen, mine)
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
        self.register.put(address, interval)
        return {address}

    def _gone(self, pod: Pod, held_us: int | None, until_us: int, *, unseen: bool = False) -> set[str]:
        """The pod is no more; it had its addresses surely until ``held_us``, and until ``until_us`` at the latest."""
        self._claiming.pop(pod.key, None)
        del self._pods[pod.key]
        self.opt_outs.end(pod.ref[:3])
        closed = (a for a in pod.addresses if self.register.close(a, pod.key, held_us, until_us, unseen=unseen))
        return set(closed)

    def _seen(self, pod: Pod, now_us: int, *, live: bool) -> Seen:
        limit_us = now_us if self._unwatched_us is None else min(now_us, self._unwatched_us)
        return Seen(now_us, live, limit_us, evidence.margin_us(pod, node=self._node))
