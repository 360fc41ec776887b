"""How many of each flow's drops are tallied, so that each drop is once, whatever becomes of its flow (pure).

A flow is tallied once its ends are decided, then by the growth of its count. When a flow is cut, some of its drops go
to another flow: those are in the tally already and must not be tallied there once more.
"""

from __future__ import annotations

from collections import Counter

from kiptail.events.endpoint import Kind
from kiptail.events.stages import Tracked
from kiptail.events.tally import Tally
from kiptail.flows.flow import FlowKey

__all__ = ["Counting"]


class Counting:
    """Tallies each drop once."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        #: Drops that were taken from a flow after they had been tallied, by its key, until that comes which has them.
        self._moved: Counter[FlowKey] = Counter()
        #: Drops that nobody could be blamed for; it only grows.
        self.ambiguous = 0
        #: Drops at an end whose Event is left out, by reason; they only grow.
        self.muted: Counter[str] = Counter()

    def restored(self, tracked: Tracked) -> None:
        """A stored flow: an earlier run counted it if it was attributed."""
        if tracked.attributed:
            tracked.tallied = tracked.ambiguous = tracked.flow.count

    def arrived(self, tracked: Tracked) -> None:
        """A new flow, some of whose drops may have been another flow's."""
        flow = tracked.flow
        tracked.tallied = min(self._moved[flow.key], flow.count) if self._moved else 0
        self._moved[flow.key] -= tracked.tallied

    def changed(self, tracked: Tracked) -> None:
        """A known flow has another count, perhaps a smaller one."""
        flow = tracked.flow
        if tracked.tallied > flow.count:
            self._moved[flow.key] += tracked.tallied - flow.count
            tracked.tallied = flow.count

    def all_arrived(self) -> None:
        """All flows of a commit have come: what is moved is moved within one."""
        self._moved.clear()

    def count(self, tracked: Tracked) -> None:
        """Tally what has come since the last time, once it is known whose it is."""
        if not tracked.attributed:
            return
        flow = tracked.flow
        if flow.count > tracked.tallied:
            self._add(tracked, flow.count - tracked.tallied)
            tracked.tallied = flow.count
        if flow.count > tracked.ambiguous and any(tracked.endpoints[end].kind is Kind.AMBIGUOUS for end in flow.ends):
            self.ambiguous += flow.count - tracked.ambiguous
            tracked.ambiguous = flow.count

    def _add(self, tracked: Tracked, count: int) -> None:
        ignored = set()
        for record in tracked.records.values():
            if record.muted and not record.withdrawn:
                self.muted[record.muted] += count
                if record.ignored:
                    ignored.add(record.end)
        self._tally.add(tracked.flow, tracked.endpoints, count, leave_out=ignored)
