"""The index of a cluster that is followed: all its pods by a watch, or this node's, and the others by look-ups.

The latter is what costs the API server least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from kiptail.clock.own import OwnClock
from kiptail.pods.listwatch import PodApi
from kiptail.pods.local import LocalPods
from kiptail.pods.other_nodes import NoOtherNodes, OtherNodes, OtherNodesApi, OtherPods
from kiptail.pods.owners import LiveOwners, NonPodNames
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks, Reflector
from kiptail.pods.stats import IndexStats
from kiptail.pods.traits import SharedTraits

__all__ = ["IndexApi", "LiveIndex", "NodeMode"]


class IndexApi(PodApi, OtherNodesApi, Protocol):
    """What is asked of the API server."""


class NodeMode(NamedTuple):
    """Only this node's pods are watched: how those of other nodes are asked for."""

    #: Gets the addresses that need not be waited for any longer, in a thread that asks.
    on_found: Callable[[Iterable[str]], None]
    #: What gives the right to look up pods of other nodes, asked when it is missing.
    how_to_grant: Callable[[], str]
    #: Nobody waits for Events at present, so that all look-ups are worth waiting for.
    unhurried: bool = False


class LiveIndex:
    """Who owned an address, for the addresses that drops are about: :class:`kiptail.pods.index.PodIndex`."""

    def __init__(
        self,
        api: IndexApi,
        *,
        node: str,
        label: str | None,
        ranges: PodRanges,
        names: NonPodNames,
        hooks: Hooks,
        clock: OwnClock,
        node_mode: NodeMode | None,
        detailed: bool = False,
    ) -> None:
        """``node`` is this node's name; ``clock`` is what drops' times are reckoned by.

        ``detailed``: all that NetworkPolicies look at is kept, not only ports' names. Without ``node_mode`` all pods of
        the cluster are watched. The hooks run in the index's threads.
        """
        self._hooks = hooks
        traits = SharedTraits(labels=detailed)
        self._others: OtherPods = NoOtherNodes()
        if node_mode is not None:
            self._others = OtherNodes(
                api,
                node=node,
                label=label,
                ranges=ranges,
                names=names,
                on_change=hooks.on_change,
                on_found=node_mode.on_found,
                how_to_grant=node_mode.how_to_grant,
                clock=clock,
                traits=traits,
            )
        #: The pods that are watched.
        self.local = LocalPods(node=node, clock=clock)
        self._reflector = Reflector(
            api,
            self.local,
            field_selector="" if node_mode is None else f"spec.nodeName={node}",
            label=label,
            node=node,
            ranges=ranges,
            # A look-up asks for what a status says: it is none the worse for what annotations say.
            hooks=hooks._replace(on_change=self._watched, on_claims=hooks.on_change),
            clock=clock,
            traits=traits,
        )
        #: The answers.
        self.owners = LiveOwners(
            self.local,
            self._others,
            ranges=ranges,
            names=names,
            unhurried=node_mode is not None and node_mode.unhurried,
        )
        #: What NetworkPolicies look at.
        self.details = self.owners if detailed else None

    def start(self) -> None:
        """Begin to list and watch."""
        self._reflector.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the threads; requests under way are not waited for any longer than ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for stop in (self._reflector.stop, self._others.close):
            stop(max(0.0, deadline - time.monotonic()))

    @property
    def trouble(self) -> str:
        """Why the pods are not followed at present, or ""."""
        return self._reflector.trouble

    def ready(self) -> bool:
        """The pods that are watched were listed once."""
        return self.local.freshness.ready()

    def fresh_us(self) -> int:
        """Up to when all that happened is known, µs since the epoch, as far as the watch does not lag."""
        return self.local.freshness.fresh_us()

    def has_node(self, name: str) -> bool:
        """Some pod that is watched runs on this node."""
        return self.local.has_node(name)

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.register.IntervalRegister.forget`, for all that is known."""
        self.local.forget(before_us)
        self._others.forget(before_us)

    def stats(self) -> IndexStats:
        """For the metrics."""
        watched = IndexStats(
            pods=len(self.local),
            age_s=self.local.freshness.age(),
            refused=self._reflector.refused,
            malformed=self.local.claims.malformed,
        )
        return self._others.add_to(watched)

    def _watched(self, addresses: set[str]) -> None:
        self._others.note_watched(addresses)
        self._hooks.on_change(addresses)
