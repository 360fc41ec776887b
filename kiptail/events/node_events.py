"""Events of the Node for drops that concern no pod: counted, stored, written.

Flows' shares (:mod:`kiptail.events.node_shares`) and the Events' counts are stored together, before a count is sent: so
each drop is counted once, also after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.errors import StateError
from kiptail.events.event import EventStyle
from kiptail.events.node_event import NodeEvent, node_event_body
from kiptail.events.node_shares import NodeShares, Share
from kiptail.events.stages import Tracked
from kiptail.events.turns import Turns
from kiptail.events.writer import Again, GivenUp, Sender

__all__ = ["NodeBook", "NodeEvents"]

log = logging.getLogger(__name__)

#: How long changes may wait to be stored, and until that is tried again, in seconds.
_SAVE_INTERVAL = 1.0


class NodeBook(Protocol):
    """Where they are kept. All raise :class:`~kiptail.errors.StateError`."""

    def load(self) -> tuple[list[NodeEvent], list[Share]]:
        """What an earlier run left."""

    def save(self, events: Iterable[NodeEvent], shares: Iterable[Share]) -> None:
        """Store these as they are, all or none."""

    def forget(self, events: Iterable[NodeEvent]) -> None:
        """Drop Events in which no flow has a share any more."""


class NodeEvents:
    """Counts and writes them; of one thread."""

    def __init__(
        self,
        book: NodeBook | None,
        sender: Sender,
        turns: Turns,
        *,
        style: EventStyle,
        anew: bool,
        clock: Callable[[], float],
        own_clock: OwnClock,
    ) -> None:
        """Without ``book`` there are none. ``anew``: as for :class:`NodeShares`. Raises StateError."""
        self._book, self._sender, self.turns, self._style = book, sender, turns, style
        self._clock, self._own_clock = clock, own_clock
        events, shares = book.load() if book is not None else ([], [])
        self._shares = NodeShares(events, shares, style.node_name, anew=anew)
        #: Of which the state does not have the latest, by number.
        self._changed: dict[int, NodeEvent] = {}
        #: When that is stored.
        self._save_at = 0.0
        self._failed = False
        for event in events:
            self._plan(event)

    @property
    def due(self) -> float | None:
        """When there is something to do; None when there is nothing."""
        dues = [self._save_at] if self._changed else []
        if self.turns.due is not None:
            dues.append(max(self.turns.due, self._save_at if self._failed else 0.0))
        return min(dues, default=None)

    def plan(self, tracked: Tracked) -> None:
        """Count what has come, or gone, of a flow; while it is being decided whose it is, it is left as it is."""
        if self._book is None or not tracked.attributed or tracked.to_reattribute:
            return
        event = self._shares.count(tracked)
        if event is not None:
            self._change(event)
            self._plan(event)

    def holds(self, tracked: Tracked) -> bool:
        """The flow's share is not stored yet."""
        return tracked.flow.id in self._shares.changed

    def forget(self, flow_id: int) -> None:
        """A flow is not tracked any more."""
        self._shares.forget_flow(flow_id)

    def step(self) -> list[int]:
        """Store and write what is due, one Event at most; gives the numbers of flows that are not held any more."""
        now = self._clock()
        sends = self.turns.due is not None and self.turns.due <= now
        released = self._save() if self._changed and (now >= self._save_at or (sends and not self._failed)) else []
        # What an Event counts has to be stored before.
        if sends and not self._shares.changed:
            self._send_next()
        return released

    def last_round(self, *, retry: bool) -> None:
        """Write all that is pending at once; as :meth:`kiptail.events.delivery.Delivery.last_round`."""
        self.turns.last_round([event for event in self._shares if event.is_pending], retry=retry)

    def expire(self, give_up_after: float) -> None:
        """Give up what could not be written for so many seconds, and forget what is over."""
        for event in self._shares:
            if event.is_pending and self._own_clock.age_s(event.last_us) > give_up_after:
                self._give_up(event, "undeliverable for too long")
        over = [event for event in self._shares.over(self._own_clock.now_us()) if event.id not in self._changed]
        if self._book is None or not over:
            return
        try:
            self._book.forget(over)
        except StateError:
            return  # the next time
        self._shares.forget(over)

    def _save(self) -> list[int]:
        if self._book is None:
            return []
        try:
            self._book.save(self._changed.values(), self._shares.changed.values())
        except StateError as error:
            self._save_at, self._failed = self._clock() + _SAVE_INTERVAL, True
            log.debug("what is counted for the node is not stored: %s", error)
            return []
        released = list(self._shares.changed)
        self._shares.changed, self._changed, self._failed = {}, {}, False
        return released

    def _send_next(self) -> None:
        taken = self.turns.take()
        event = self._shares.get(taken[1][0]) if taken is not None else None
        if taken is None or event is None or not event.is_pending:
            return
        again = self._send(event)
        if again is not None:
            self.turns.again(event, taken[0], again)

    def _send(self, event: NodeEvent) -> Again | None:
        """Write one; None when that is settled."""
        count = event.count
        result = self._sender.send(node_event_body(event, self._style, wall_us=self._own_clock.wall_us), event)
        match result:
            case Again():
                return result
            case GivenUp():
                self._give_up(event, result.reason)
            case _:
                event.sent_count, event.sent_at_us, event.unnoted = count, self._own_clock.now_us(), False
                event.writes += 1
                self._change(event)
                self._plan(event)
        return None

    def _give_up(self, event: NodeEvent, reason: str) -> None:
        event.given_up = reason
        self._change(event)
        log.warning("giving up Event %s of node %s: %s", event.name, self._style.node_name, reason)

    def _change(self, event: NodeEvent) -> None:
        if not self._changed and not self._failed:
            self._save_at = self._clock() + _SAVE_INTERVAL
        self._changed[event.id] = event

    def _plan(self, event: NodeEvent) -> None:
        if event.is_pending:
            self.turns.plan(event, now_us=self._own_clock.now_us())
