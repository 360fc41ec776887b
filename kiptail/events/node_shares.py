"""Which Event of the Node counts how many of each flow's drops (pure): at most 20 begin within an hour.

Each flow has a share in one Event. A share is taken back when a flow's drops turn out to be a pod's, or another flow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiptail.events.node_event import ELSE, NodeEvent, Subject, node_event_name, subject_of
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Flow
from kiptail.flows.ledger import IDLE_US

__all__ = ["MOST_AN_HOUR", "NodeShares", "Share"]

#: The most that begin within an hour of the drops' time, the last of them for all else.
MOST_AN_HOUR = 20
_HOUR_US = 3_600_000_000


@dataclass(slots=True)
class Share:
    """How many of a flow's drops an Event counts."""

    flow_id: int
    event_id: int
    count: int = 0


class NodeShares:
    """All Events of the Node, and the flows' shares in them."""

    def __init__(self, events: Iterable[NodeEvent], shares: Iterable[Share], node_name: str, *, anew: bool) -> None:
        """``anew``: what an earlier run counted is counted once more, so its Events do not go on."""
        self._events = {event.id: event for event in events}
        self._shares = {share.flow_id: share for share in shares}
        self._node_name = node_name
        #: Up to this number they do not go on.
        self._earlier = max(self._events, default=0) if anew else 0
        #: Those that have changed since they were stored.
        self.changed: dict[int, Share] = {}

    def __iter__(self) -> Iterator[NodeEvent]:
        return iter(list(self._events.values()))

    def get(self, event_id: int) -> NodeEvent | None:
        """The Event with this number, if there is one."""
        return self._events.get(event_id)

    def count(self, tracked: Tracked) -> NodeEvent | None:
        """Count what has come, or gone, of a flow whose ends are decided; gives the Event that this changes."""
        flow = tracked.flow
        subject = subject_of(tracked, self._node_name)
        share = self._shares.get(flow.id)
        if share is None:
            if subject is None or not flow.count:
                return None
            share = self._shares[flow.id] = Share(flow.id, self._event_for(subject, flow).id)
        event = self._events[share.event_id]
        count = flow.count if subject is not None else 0
        if count == share.count:
            return None
        event.count += count - share.count
        share.count = count
        if count:
            event.first_us, event.last_us = min(event.first_us, flow.first_us), max(event.last_us, flow.last_us)
        self.changed[flow.id] = share
        return event

    def forget_flow(self, flow_id: int) -> None:
        """A flow is not tracked any more; its drops stay counted."""
        self._shares.pop(flow_id, None)
        self.changed.pop(flow_id, None)

    def over(self, now_us: int) -> list[NodeEvent]:
        """Those of which nothing is left to tell; not those that began within the hour, of which there is a bound."""
        shared = {share.event_id for share in self._shares.values()}
        return [
            event
            for event in self._events.values()
            if not event.is_pending
            and event.id not in shared
            and now_us > max(event.begun_us + _HOUR_US, event.last_us + IDLE_US)
        ]

    def forget(self, events: Iterable[NodeEvent]) -> None:
        """Those are not there any more."""
        for event in events:
            del self._events[event.id]

    def _event_for(self, subject: Subject, flow: Flow) -> NodeEvent:
        """The Event that goes on, or a new one."""
        event = self._going_on(subject, flow)
        if event is not None:
            return event
        begun = [event for event in self._of_this_run() if abs(flow.opened_us - event.begun_us) < _HOUR_US]
        if len(begun) >= MOST_AN_HOUR - 1:
            subject = ELSE
            # Where one for all else has begun within the hour, there is no room for another.
            event = self._going_on(subject, flow) or next((one for one in begun if one.subject == ELSE), None)
            if event is not None:
                return event
        name = node_event_name(subject, flow, self._node_name)
        number = max(self._events, default=0) + 1
        event = NodeEvent(number, subject, name, flow.opened_us, flow.first_us, flow.last_us)
        self._events[number] = event
        return event

    def _going_on(self, subject: Subject, flow: Flow) -> NodeEvent | None:
        for event in self._of_this_run():
            if event.subject == subject and not event.given_up and flow.opened_us - event.last_us <= IDLE_US:
                return event
        return None

    def _of_this_run(self) -> list[NodeEvent]:
        """Those that further flows may have a share in, the latest one first."""
        return [event for event in reversed(self._events.values()) if event.id > self._earlier]
