"""Flows sorted: which of their Events are left out, noted in the state, and then what has come of them counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kiptail.events.counting import Counting
from kiptail.events.delivery import Notes
from kiptail.events.muting import Muting
from kiptail.events.stages import Tracked

__all__ = ["Sorting"]


class Sorting:
    """Decides, notes and counts, for one thread."""

    def __init__(self, muting: Muting, counting: Counting, notes: Notes) -> None:
        self._muting, self.counting, self._notes = muting, counting, notes

    def mute(self, tracked: Tracked) -> None:
        """Leave those of a flow's Events out that are to be left out by what is known now."""
        for record in self._muting.decide(tracked):
            self._notes.add(record)

    def count(self, tracked: Tracked) -> None:
        """Count what has come of a flow, with which of its Events are left out; not while that is waited for."""
        if not (tracked.held and self._muting.awaits(tracked)):
            self.mute(tracked)
            self.counting.count(tracked)

    def answered(self, flows: Iterable[Tracked]) -> Iterator[Tracked]:
        """Take in whether namespaces opted out that were asked; gives those of the flows for which that is a change."""
        namespaces = self._muting.answered()
        for tracked in list(flows) if namespaces else ():
            pods = (pod for endpoint in tracked.endpoints.values() for pod in endpoint.pods)
            if any(pod.namespace in namespaces for pod in pods):
                self.mute(tracked)
                yield tracked
