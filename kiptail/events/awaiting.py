"""Flows whose owners or names are still awaited: when they are looked at again, and for how long it is worth it.

Also those whose owners were found and may be others by what is known since: they are attributed anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kiptail.errors import StateError
from kiptail.events.attribution import Attributor
from kiptail.events.endpoint import Endpoint
from kiptail.events.stages import Stages, Tracked
from kiptail.flows.flow import Flow

__all__ = ["PATIENCE", "Awaiting", "LateNames", "Looked"]

log = logging.getLogger(__name__)

#: How long a flow's Events wait for a name, or for changes of a pod that has just started, in seconds.
PATIENCE = 2.0
#: The same while no changes of pods can arrive.
PATIENCE_WHILE_BLIND = 60.0
#: How often flows that wait are looked at again, in seconds.
_LOOK_INTERVAL = 0.1
#: How long until writing the state is tried again, in seconds.
_STATE_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Looked:
    """A flow that was looked at: its Events may be others than before, or have other texts."""

    tracked: Tracked
    #: All its ends are decided now, and none is to be attributed anew.
    decided: bool


class LateNames:
    """Flows that are attributed, with an address whose name has not come yet, or may be another by now."""

    def __init__(self, attributor: Attributor, stages: Stages) -> None:
        self._attributor, self._stages = attributor, stages
        self._unnamed: dict[int, Tracked] = {}

    def __len__(self) -> int:
        return len(self._unnamed)

    def add(self, tracked: Tracked) -> None:
        """A name may still come."""
        self._unnamed[tracked.flow.id] = tracked

    def drop(self, flow_id: int) -> None:
        """A flow is not tracked any more."""
        self._unnamed.pop(flow_id, None)

    def come(self) -> Iterator[Tracked]:
        """Put the names in that have come; gives each flow for which one is awaited."""
        for tracked in list(self._unnamed.values()):
            try:
                named = self._attributor.rename(tracked)
            except StateError:
                return
            if named:
                del self._unnamed[tracked.flow.id]
            yield tracked

    def rename_strangers(self) -> Iterator[Tracked]:
        """The cluster has other names than before; gives each flow with an address that has one now."""
        for tracked in list(self._stages):
            try:
                if self._attributor.rename_strangers(tracked):
                    yield tracked
            except StateError:
                return  # what is not renamed now is still true


class Awaiting:
    """Asks the attribution for all flows that wait for it."""

    def __init__(
        self,
        attributor: Attributor,
        stages: Stages,
        *,
        clock: Callable[[], float],
        uncut: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """``uncut`` tells whether flows of an address have still to be cut by what is known of it."""
        self.attributor, self._stages, self._clock, self._uncut_at = attributor, stages, clock, uncut
        self.names = LateNames(attributor, stages)
        self._unattributed: dict[int, Tracked] = {}
        #: Those among them that were not looked at yet.
        self._fresh: dict[int, Tracked] = {}
        self._look_at = self._not_before = 0.0
        #: Decisions that were taken back; it only grows.
        self.reattributed = 0

    def __len__(self) -> int:
        """How many flows wait for somebody to be found at their ends."""
        return len(self._unattributed)

    def uncut(self) -> bool:
        """Some of those that wait have still to be cut."""
        return any(map(self._is_uncut, self._unattributed.values()))

    @property
    def due(self) -> float | None:
        """When there is something to look at; None when there is nothing."""
        if self._fresh:
            return 0.0
        return self._next_look() if self._unattributed or (self.names and self._look_at == 0) else None

    # -- who waits ------------------------------------------------------------------------------------------

    def add(self, tracked: Tracked) -> None:
        """A flow that was taken up: it waits unless it is attributed."""
        if not tracked.attributed and tracked.flow.id not in self._unattributed:
            self._unattributed[tracked.flow.id] = tracked
            self._fresh[tracked.flow.id] = tracked

    def drop(self, flow_id: int) -> None:
        """A flow is not tracked any more."""
        self._unattributed.pop(flow_id, None)
        self._fresh.pop(flow_id, None)
        self.names.drop(flow_id)

    def changed(self, tracked: Tracked, before: Flow) -> None:
        """A flow was otherwise ``before``; a count alone changes nothing here."""
        if _decisive(tracked.flow) != _decisive(before):
            self.reopen(tracked, None)
            try:
                self.attributor.refresh(tracked)
            except StateError:
                log.debug("flow %d will be looked at again", tracked.flow.id)
            self._unattributed[tracked.flow.id] = tracked
            self.look_again()
        elif tracked.flow.spread is not None:
            self.attributor.wording.reword(tracked)

    def reattribute(self, addresses: set[str]) -> None:
        """Something else is known of these addresses than before: who was found there may be wrong."""
        for tracked in list(self._stages):
            self.reopen(tracked, addresses)

    def reopen(self, tracked: Tracked, addresses: set[str] | None = None) -> None:
        """The same of one flow, and of all its addresses if None."""
        if tracked.reattribute(addresses, self._clock()):
            self._unattributed[tracked.flow.id] = tracked
            self._stages.reopen(tracked)
            self.look_again()

    def ask_again(self, tracked: Tracked) -> None:
        """Nobody brought an answer for a while: look again for owners that may still turn out."""
        if tracked.ask_again():
            self._unattributed[tracked.flow.id] = tracked

    # -- looking --------------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """The index or a name has an answer."""
        self._look_at = 0.0

    def look(self, *, final: bool = False, leave: bool = False) -> Iterator[Looked]:
        """Look who is at the ends of flows, if it is time; ``final``: nobody will be found later.

        ``leave``: except by the next start, to which what would be a guess now is left.
        """
        now = self._clock()
        if final or now >= self._next_look():
            for tracked in self.names.come():
                yield Looked(tracked, decided=False)
            waiting = list(self._unattributed.values())
            self._look_at = now + _LOOK_INTERVAL
        else:
            waiting = list(self._fresh.values())
        self._fresh.clear()
        if waiting and self.attributor.ready():
            yield from self._attributed(waiting, now, final=final, leave=leave)
            # A crowd of strangers must not cost more than a tenth of the time.
            self._not_before = now + 10 * (self._clock() - now)

    def _attributed(self, waiting: Iterable[Tracked], now: float, *, final: bool, leave: bool) -> Iterator[Looked]:
        patience = PATIENCE if self.attributor.current() else PATIENCE_WHILE_BLIND
        for tracked in waiting:
            if tracked.flow.id not in self._stages:
                continue  # it was dropped meanwhile
            if leave and self.attributor.contested(tracked):
                continue
            if self._is_uncut(tracked):
                continue  # it may be several flows
            known, before = tracked.attributed, tracked.endpoints
            try:
                decided = self.attributor.attribute(tracked, patient=not final and now - tracked.since < patience)
            except StateError:
                self._look_at = now + _STATE_RETRY  # nothing uncommitted is sent; the journal loop says why
                return
            if known and any(_named(endpoint) != _named(before[end]) for end, endpoint in tracked.endpoints.items()):
                self.reattributed += 1
            if decided:
                self._unattributed.pop(tracked.flow.id, None)
                if any(endpoint.unnamed for endpoint in tracked.endpoints.values()):
                    self.names.add(tracked)
            yield Looked(tracked, decided)

    def _is_uncut(self, tracked: Tracked) -> bool:
        return any(self._uncut_at(tracked.address(end)) for end in tracked.ends)

    def _next_look(self) -> float:
        """When those that wait are looked at again."""
        return max(self._look_at, self._not_before)


def _named(endpoint: Endpoint) -> list[tuple[str, ...]]:
    """The pods there, without what may be said of the same pod in another way."""
    return [pod[:3] for pod in endpoint.pods]


def _decisive(flow: Flow) -> tuple[object, ...]:
    """What decides whose a flow is and who has an Event; its count does not, unless there is none."""
    return (flow.ends, flow.opened_us, flow.mixed, not flow.count)
