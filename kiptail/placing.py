"""Who is at a flow's two ends, decided once and stored, with the Event that each pod among them gets."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kiptail.event import EventRecord, EventStyle, event_name, message
from kiptail.flow import SIDES, Flow
from kiptail.locate import Endpoint, Kind
from kiptail.ownership import PodRef

__all__ = ["Locate", "Outbox", "Placer", "Tracked"]


class Locate(Protocol):
    """Who is at an address."""

    def ready(self) -> bool:
        """The index is complete; before, nobody can be told from a stranger."""

    def current(self) -> bool:
        """News of pods arrives at present."""

    def locate(self, address: str, at_us: int, *, patient: bool) -> Endpoint | None:
        """The endpoint, or None while it cannot be said."""

    def named(self, endpoint: Endpoint) -> Endpoint:
        """The same endpoint, with the name that has come meanwhile."""


class Outbox(Protocol):
    """What is kept of decisions and deliveries. All raise :class:`~kiptail.errors.StateError`."""

    def save_endpoints(self, flow_id: int, ends: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Store who is at a flow's ends, and their Events, before they are sent."""

    def save_record(self, record: EventRecord) -> None:
        """Store what became of a write."""

    def forget(self, flow_ids: Iterable[int]) -> None:
        """Drop ended flows that are told."""


@dataclass(slots=True)
class Tracked:
    """A committed flow on its way to its Events."""

    flow: Flow
    #: When delivery first saw it, by its clock, in seconds.
    since: float
    #: What is known of each side that has an address; a side that is missing is undecided.
    ends: dict[str, Endpoint] = field(default_factory=dict)
    #: The Events of those sides that the flow tells and that are pods.
    records: dict[str, EventRecord] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides where somebody is: one of a folded flow, else both."""
        return tuple(side for side in SIDES if self.address(side))

    @property
    def placed(self) -> bool:
        """All ends are decided."""
        return len(self.ends) == len(self.sides)

    @property
    def settled(self) -> bool:
        """All ends are decided for good."""
        return self.placed and not any(end.open for end in self.ends.values())

    def ask_again(self) -> bool:
        """Leave open again who is at those ends where an owner may still turn out; True when there are any."""
        self.ends = {side: end for side, end in self.ends.items() if not end.open}
        return not self.placed

    def forget_strangers(self, addresses: Container[str]) -> bool:
        """Leave open again who is at those of these addresses where no pod was found; True when there are any."""
        for side, end in list(self.ends.items()):
            if end.kind is Kind.NOBODY and end.address in addresses:
                del self.ends[side]
        return not self.placed

    def address(self, side: str) -> str:
        """The flow's address at this side."""
        return self.flow.key.address(side)

    def peer(self, side: str) -> Endpoint:
        """Who is at the other side, as far as it is known."""
        other = _other(side)
        return self.ends.get(other) or Endpoint(Kind.NOBODY, self.address(other))

    def peer_pod(self, side: str) -> PodRef | None:
        """The pod at the other side, when it is one."""
        peer = self.peer(side)
        return peer.pods[0] if peer.kind is Kind.POD else None

    def has_news(self) -> bool:
        """Some Event does not tell everything yet."""
        return any(record.has_news(self.flow.count) for record in self.records.values())


class Placer:
    """Decides, words and stores."""

    def __init__(self, locate: Locate, outbox: Outbox, style: EventStyle) -> None:
        self._locate, self._outbox, self._style = locate, outbox, style

    def ready(self) -> bool:
        """:meth:`place` can be asked."""
        return self._locate.ready()

    def current(self) -> bool:
        """News of pods arrives at present."""
        return self._locate.current()

    def place(self, tracked: Tracked, *, patient: bool) -> bool:
        """Decide who is at the ends of a flow; True when all are decided.

        ``patient``: wait for names, and for news of pods, instead of telling without them. Raises
        :class:`~kiptail.errors.StateError`, and then nothing is decided.
        """
        flow = tracked.flow
        found = {
            side: tracked.ends.get(side) or self._locate.locate(tracked.address(side), flow.opened_us, patient=patient)
            for side in tracked.sides
        }
        if patient and any(end is None or end.unnamed for end in found.values()):
            return False
        decided = Tracked(flow, tracked.since, {s: e for s, e in found.items() if e is not None}, tracked.records)
        records = {
            side: self._record(decided, side, end.pods[0])
            for side, end in decided.ends.items()
            if end.kind is Kind.POD and side in flow.sides
        }
        # What may still turn out is asked again after a restart.
        final = {side: end for side, end in decided.ends.items() if not end.open}
        self._outbox.save_endpoints(flow.id, final, records.values())
        tracked.ends, tracked.records = decided.ends, records
        return tracked.placed

    def rename(self, tracked: Tracked) -> bool:
        """Put names that have come late into the Events' texts; True when none is awaited any more."""
        for side, end in list(tracked.ends.items()):
            if end.unnamed:
                tracked.ends[side] = self._locate.named(end)
        self.reword(tracked)
        return not any(end.unnamed for end in tracked.ends.values())

    def reword(self, tracked: Tracked) -> None:
        """Bring the Events' texts up to what is known by now."""
        for side, record in tracked.records.items():
            record.message = message(tracked.flow, side, tracked.peer(side), self._style)

    def _record(self, tracked: Tracked, side: str, pod: PodRef) -> EventRecord:
        flow = tracked.flow
        text = message(flow, side, tracked.peer(side), self._style)
        before = tracked.records.get(side)
        if before is not None:
            before.message = text
            return before
        return EventRecord(flow.id, side, pod, event_name(flow, side, pod, self._style.node_name), text)


def _other(side: str) -> str:
    return "dst" if side == "src" else "src"
