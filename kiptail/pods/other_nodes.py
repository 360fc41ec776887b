"""Pods of other nodes, where only this node's are watched: asked for by address, and kept as they were found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.pods.dual_stack import DualStackApi, DualStackList
from kiptail.pods.lookups import LookupApi, Lookups
from kiptail.pods.opt_out import OptOuts
from kiptail.pods.ownership import Interval, Pod
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reducer import dated_by
from kiptail.pods.remote import RemotePods
from kiptail.pods.stats import IndexStats
from kiptail.pods.traits import SharedTraits

__all__ = ["NoOtherNodes", "NotePods", "OtherNodes", "OtherNodesApi", "OtherPods"]


class OtherNodesApi(LookupApi, DualStackApi, Protocol):
    """What is asked of the API server."""


class NotePods(Protocol):
    """Whoever looks for names of addresses."""

    def note_pods(self, addresses: Iterable[str]) -> None:
        """These are pods': no name is looked for."""


class OtherPods(Protocol):
    """What is asked of the pods that are not watched."""

    @property
    def opt_outs(self) -> OptOuts:
        """Whose owners opted out of Events, as it was when they were found."""

    def pending(self) -> bool:
        """A look-up has not been answered yet."""

    def knows(self, address: str, at_us: int) -> bool:
        """What was found answers for a drop at ``at_us``."""

    def rules_out(self, address: str, at_us: int) -> bool:
        """That no pod that is not watched is known at the address at ``at_us`` means that none was there."""

    def pods_at(self, address: str) -> list[Pod]:
        """As :meth:`kiptail.pods.ownership.Ownership.pods_at`."""

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` found; True while that is awaited."""

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """All that was ever found of the address."""

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""

    def note_watched(self, addresses: Iterable[str]) -> None:
        """Something else is known of pods that are watched, at these addresses."""

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.register.IntervalRegister.forget`."""

    def close(self, timeout: float) -> None:
        """End the threads; requests under way are not waited for any longer than ``timeout`` seconds."""

    def add_to(self, stats: IndexStats) -> IndexStats:
        """``stats`` with what these pods cost."""


class NoOtherNodes:
    """All pods are watched: there are no others."""

    @property
    def opt_outs(self) -> OptOuts:
        """Nothing is known."""
        return OptOuts()

    def pending(self) -> bool:
        """Nothing is asked."""
        return False

    def knows(self, address: str, at_us: int) -> bool:
        """Nothing is known."""
        return False

    def rules_out(self, address: str, at_us: int) -> bool:
        """There are no others."""
        return True

    def pods_at(self, address: str) -> list[Pod]:
        """Nothing is known."""
        return []

    def ask(self, address: str, at_us: int) -> bool:
        """There is nobody to ask."""
        return False

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """Nothing is known."""
        return ()

    def node(self, address: str) -> str:
        """Nothing is known."""
        return ""

    def note_watched(self, addresses: Iterable[str]) -> None:
        """That contradicts nothing."""

    def forget(self, before_us: int) -> None:
        """Nothing is known."""

    def close(self, timeout: float) -> None:
        """There are no threads."""

    def add_to(self, stats: IndexStats) -> IndexStats:
        """They cost nothing."""
        return stats


class OtherNodes:
    """Asks by first addresses (:class:`Lookups`), for second ones (:class:`DualStackList`), and keeps what it finds."""

    def __init__(
        self,
        api: OtherNodesApi,
        *,
        node: str,
        label: str | None,
        ranges: PodRanges,
        names: NotePods,
        on_change: Callable[[set[str]], None],
        on_found: Callable[[Iterable[str]], None],
        how_to_grant: Callable[[], str],
        clock: OwnClock,
        traits: SharedTraits | None = None,
    ) -> None:
        """``node``: this machine's, whose pods are passed over. The callbacks run in the threads that ask.

        ``on_change`` gets the addresses of which something else is known than before; ``on_found`` those that need
        not be waited for any longer; ``how_to_grant`` tells what gives the right to look pods up, when it is missing.
        ``traits``: as for :func:`~kiptail.pods.pod_object.reduce_pod`.
        """
        self._node = node
        self._ranges = ranges
        self._names = names
        self._on_change = on_change
        self._clock = clock
        self._lookups = Lookups(
            api,
            label=label,
            found=self._looked_up,
            on_answer=on_found,
            how_to_grant=how_to_grant,
            clock=clock,
            traits=traits,
        )
        self._dual_stack = DualStackList(
            api, label=label, found=self._listed, on_answer=on_found, clock=clock, traits=traits
        )
        #: For what was found.
        self._lock = threading.Lock()
        self._remote = RemotePods()
        #: Whose owners opted out of Events.
        self.opt_outs: OptOuts = self._remote.opt_outs

    def pending(self) -> bool:
        """A look-up has not been answered yet."""
        return self._lookups.pending > 0

    def knows(self, address: str, at_us: int) -> bool:
        """What was found answers for a drop at ``at_us``."""
        return self._lookups.knows(address, at_us) or self._dual_stack.knows(address, at_us)

    def rules_out(self, address: str, at_us: int) -> bool:
        """Who was there was asked for, and answered."""
        return self.knows(address, at_us)

    def pods_at(self, address: str) -> list[Pod]:
        """As :meth:`kiptail.pods.ownership.Ownership.pods_at`."""
        with self._lock:
            return self._remote.pods_at(address)

    def ask(self, address: str, at_us: int) -> bool:
        """Have the owner at ``at_us`` found; True while that is awaited."""
        if not self._ranges.is_second(address):
            return self._lookups.ask(address, at_us)
        if self.knows(address, at_us) or self._lookups.forbidden():
            return False
        if self._dual_stack.awaits(address):
            return True
        with self._lock:
            first = self._remote.first_address(address)
        # By its first address, if it still is the same pod's; else all pods have to be read.
        return (bool(first) and self._lookups.ask(first, at_us)) or self._dual_stack.ask(address, at_us)

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """All that was ever found of the address."""
        with self._lock:
            return self._remote.intervals(address)

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""
        with self._lock:
            return self._remote.node(address)

    def note_watched(self, addresses: Iterable[str]) -> None:
        """This node's pods have, or had, these addresses: who was found does not have them any more."""
        for address in addresses:
            self._lookups.forget(address)
        self._names.note_pods(addresses)

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.register.IntervalRegister.forget`."""
        with self._lock:
            self._remote.forget(before_us)

    def close(self, timeout: float) -> None:
        """End the threads; requests under way are not waited for any longer than ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for close in (self._lookups.close, self._dual_stack.close):
            close(max(0.0, deadline - time.monotonic()))

    def add_to(self, stats: IndexStats) -> IndexStats:
        """``stats`` with what these pods cost."""
        with self._lock:
            remote = len(self._remote)
        return replace(
            stats,
            remote_pods=remote,
            refused=stats.refused + self._lookups.refused + self._dual_stack.cost.refused,
            lookups=dict(self._lookups.results),
            pending=self._lookups.pending + self._dual_stack.pending,
            dual_stack_lists=self._dual_stack.cost.lists,
            dual_stack_pods=self._dual_stack.cost.pods,
            dual_stack_s=self._dual_stack.cost.seconds,
        )

    # -- called from the threads ----------------------------------------------------------------------------

    def _elsewhere(self, pods: Iterable[Pod]) -> list[Pod]:
        """Those of other nodes: the node's own are the watch's business, which sees them end."""
        return [dated_by(self._clock, pod, node=self._node) for pod in pods if pod.node != self._node]

    def _looked_up(self, address: str, pods: list[Pod], asked_us: int) -> frozenset[str]:
        others = self._elsewhere(pods)
        for pod in pods:
            self._ranges.note_pods(pod.addresses)
        with self._lock:
            changed = self._remote.found(address, others, now_us=asked_us)
            self._remote.expire(now_us=asked_us)
        if changed:
            self._on_change(changed)
        found = frozenset(other for pod in others if pod.until_us is None for other in pod.addresses)
        self._names.note_pods(found)
        return found

    def _listed(self, pods: list[Pod], awaited: frozenset[str]) -> None:
        others = self._elsewhere(pods)
        wanted = [pod for pod in others if not awaited.isdisjoint(pod.addresses)]
        with self._lock:
            for pod in others:
                self._remote.note_seconds(pod)
            changed = self._remote.learned(wanted, now_us=self._clock.now_us())
        self._names.note_pods([address for pod in wanted for address in pod.addresses])
        if changed:
            self._on_change(changed)
