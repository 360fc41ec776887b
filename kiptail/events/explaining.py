"""Flows whose Events may yet say which NetworkPolicies are in the way: held back for a moment, then put right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kiptail.errors import StateError
from kiptail.events.attribution import Attributor
from kiptail.events.awaiting import PATIENCE
from kiptail.events.schedule import DueQueue
from kiptail.events.stages import Tracked

__all__ = ["Explaining"]

#: How long until writing the state is tried again, in seconds.
_STATE_RETRY = 1.0


class Explaining:
    """Asks the attribution for the explanations of all flows that wait for one.

    A flow's first Events wait for it as long as they would for a name; nothing else does. What comes later is patched.
    """

    def __init__(self, attributor: Attributor, *, clock: Callable[[], float]) -> None:
        self._attributor, self._clock = attributor, clock
        self._waiting: dict[int, Tracked] = {}
        #: Those that are held back, by until when; also some that are not any more.
        self._held: DueQueue[int] = DueQueue()
        #: When those that wait are looked at; None until there are answers.
        self._look_at: float | None = None
        self._not_before = 0.0

    def __len__(self) -> int:
        """How many flows wait."""
        return len(self._waiting)

    @property
    def due(self) -> float | None:
        """When there is something to do; None when there is nothing."""
        held = self._held.due
        if not self._waiting or self._look_at is None:
            return held
        look_at = max(self._look_at, self._not_before)
        return look_at if held is None else min(look_at, held)

    def begin(self, tracked: Tracked) -> None:
        """It is decided who is at the flow's ends: it is explained, or waits for that."""
        if tracked.why is not None:
            self._end(tracked)
        elif tracked.flow.id not in self._waiting:
            self._waiting[tracked.flow.id] = tracked
            tracked.held = self._clock() < tracked.since + PATIENCE
            if tracked.held:
                self._held.add(tracked.flow.id, tracked.since + PATIENCE)
            self.look_again()  # the answer may have come meanwhile

    def drop(self, flow_id: int) -> None:
        """A flow is not tracked any more."""
        self._waiting.pop(flow_id, None)

    def look_again(self) -> None:
        """There may be answers."""
        if self._look_at is None:
            self._look_at = 0.0

    def look(self) -> Iterator[Tracked]:
        """Explain what can be; gives each flow whose Events have other texts then, or wait no longer."""
        now = self._clock()
        if self._waiting and self._look_at is not None and now >= max(self._look_at, self._not_before):
            self._look_at = None
            for tracked in list(self._waiting.values()):
                try:
                    explained = self._attributor.explain(tracked)
                except StateError:
                    self._look_at = now + _STATE_RETRY
                    break
                if explained:
                    self._end(tracked)
                    yield tracked
            # A crowd must not cost more than a tenth of the time.
            self._not_before = now + 10 * (self._clock() - now)
        while (until := self._held.due) is not None and now >= until:
            late = self._waiting.get(self._held.pop()[1])
            if late is not None:
                late.held = False
                yield late

    def _end(self, tracked: Tracked) -> None:
        """A flow does not wait any longer."""
        self._waiting.pop(tracked.flow.id, None)
        tracked.held = False
