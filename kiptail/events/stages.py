"""The flows that are tracked, each at one stage of its way (pure).

A flow goes on, then it has ended, then it rests, then it is dropped; one that rests may be reopened, and rests anew.
:class:`Stages` is the only one that moves it. Whether its owners or names are still awaited is another matter, of all
stages: :mod:`kiptail.events.awaiting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.events.event import EventRecord
from kiptail.flows.flow import ENDS, Flow
from kiptail.flows.left_out import LeftOut
from kiptail.pods.ownership import PodRef
from kiptail.quiet.filter import Party

__all__ = ["Filtered", "Stage", "Stages", "Tracked"]


class Stage(Enum):
    """How far a flow is."""

    #: It goes on.
    OPEN = auto()
    #: It has ended, and something of it is not attributed or not posted yet.
    ENDED = auto()
    #: It has ended and all of it is posted, but it may still be cut or turn out to be another pod's.
    RESTING = auto()
    #: It rested, and something of it is to be attributed or posted anew.
    REOPENED = auto()


class Filtered(NamedTuple):
    """What filters said of a flow, by end ("" for neither), and of whom they were asked."""

    parties: Mapping[str, Party]
    left_out: Mapping[str, LeftOut | None]


@dataclass(slots=True)
class Tracked:
    """A committed flow on its way to its Events."""

    flow: Flow
    #: When it was first seen here, or began to be reattributed, by the recorder's clock, in seconds.
    since: float
    #: What is known of each end that has an address; an end that is missing is undecided.
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    #: The Events of those ends that the flow tells and that are, or were taken for, pods: by end and the pod's UID.
    records: dict[tuple[str, str], EventRecord] = field(default_factory=dict)
    #: Decided ends of which something else may be known by now.
    to_reattribute: set[str] = field(default_factory=set)
    #: How many of its drops are in the tally of namespaces, and in the count of those that nobody could be blamed for.
    tallied: int = 0
    ambiguous: int = 0
    #: What its Events say of NetworkPolicies, by end; None = that is not decided.
    why: Mapping[str, str] | None = None
    #: Its first Events wait for that.
    held: bool = False
    #: Why the Node is to have no Event of it, or "".
    muted: str = ""
    #: None before any was asked.
    filtered: Filtered | None = None
    #: Moved by :class:`Stages` only.
    stage: Stage = Stage.OPEN

    @property
    def ends(self) -> tuple[str, ...]:
        """The ends where somebody is: one of a folded flow, else both."""
        return tuple(end for end in ENDS if self.address(end))

    @property
    def attributed(self) -> bool:
        """All ends are decided."""
        return len(self.endpoints) == len(self.ends)

    @property
    def settled(self) -> bool:
        """All ends are decided, and nothing is known that could change that."""
        may_change = self.to_reattribute or any(endpoint.open for endpoint in self.endpoints.values())
        return self.attributed and not may_change

    def ask_again(self) -> bool:
        """Leave open again who is at those ends where an owner may still turn out; True when there are any."""
        self.endpoints = {end: endpoint for end, endpoint in self.endpoints.items() if not endpoint.open}
        return not self.attributed

    def reattribute(self, addresses: set[str] | None, now: float) -> bool:
        """Something else may be known of these addresses, of all if None; True when that concerns this flow."""
        ends = {end for end, endpoint in self.endpoints.items() if addresses is None or endpoint.address in addresses}
        if ends and self.attributed:
            self.since = now
        self.to_reattribute |= ends
        return bool(ends)

    def address(self, end: str) -> str:
        """The flow's address at this end."""
        return self.flow.key.address(end)

    def when(self, end: str) -> When:
        """What the owner of an end's address is asked for by."""
        flow = self.flow
        return When(flow.opened_us, flow.last_us if flow.mixed else None, flow.key.here == end)

    def peer(self, end: str) -> Endpoint:
        """Who is at the other end, as far as it is known."""
        other = "dst" if end == "src" else "src"
        return self.endpoints.get(other) or Endpoint(Kind.NOBODY, self.address(other))

    @property
    def service(self) -> Endpoint | None:
        """Who is at the end whose port the flow's is, as far as it is known."""
        return self.endpoints.get(self.flow.key.service_end)

    def peer_pod(self, end: str) -> PodRef | None:
        """The pod at the other end, when it is one."""
        peer = self.peer(end)
        return peer.pods[0] if peer.kind is Kind.POD else None

    def is_pending(self) -> bool:
        """Some Event does not tell everything yet."""
        return any(record.is_pending(self.flow.count) for record in self.records.values())

    def is_done(self) -> bool:
        """The flow has ended, and all of it is attributed and posted."""
        return self.flow.ended and self.settled and not self.is_pending()


class Stages:
    """All tracked flows, and those at each stage in the order in which they came to it."""

    def __init__(self) -> None:
        self._flows: dict[int, Tracked] = {}
        self._at: dict[Stage, dict[int, Tracked]] = {stage: {} for stage in Stage}

    def __iter__(self) -> Iterator[Tracked]:
        return iter(self._flows.values())

    def __len__(self) -> int:
        return len(self._flows)

    def __contains__(self, flow_id: int) -> bool:
        return flow_id in self._flows

    def get(self, flow_id: int) -> Tracked | None:
        """The flow with this number, if it is tracked."""
        return self._flows.get(flow_id)

    def count(self, stage: Stage) -> int:
        """How many flows are at this stage."""
        return len(self._at[stage])

    def first(self, stage: Stage) -> Tracked:
        """The flow that came to this stage before all others that are there."""
        return next(iter(self._at[stage].values()))

    def track(self, tracked: Tracked) -> None:
        """Take a flow up, or take note of how it is by now. One that rests goes on resting."""
        if tracked.flow.id not in self._flows:
            self._flows[tracked.flow.id] = tracked
            self._move(tracked, tracked.stage)
        if tracked.flow.ended and tracked.stage is Stage.OPEN:
            self._move(tracked, Stage.ENDED)

    def rest(self, tracked: Tracked) -> None:
        """All of a flow that has ended is posted."""
        if tracked.stage is not Stage.RESTING:
            self._move(tracked, Stage.RESTING)

    def reopen(self, tracked: Tracked) -> None:
        """There may be something new of a flow; if it rests, it does so no longer unless it is done all the same."""
        if tracked.stage is Stage.RESTING and tracked.flow.id in self._flows and not tracked.is_done():
            self._move(tracked, Stage.REOPENED)

    def drop(self, flow_id: int) -> None:
        """Track a flow no longer."""
        tracked = self._flows.pop(flow_id, None)
        if tracked is not None:
            del self._at[tracked.stage][flow_id]

    def _move(self, tracked: Tracked, stage: Stage) -> None:
        self._at[tracked.stage].pop(tracked.flow.id, None)
        tracked.stage = stage
        self._at[stage][tracked.flow.id] = tracked
