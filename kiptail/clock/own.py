"""This machine's clocks, and what they say in steady time."""

from __future__ import annotations

import time
from collections.abc import Callable

from kiptail.clock.steady import SLACK_US, Timeline, whole

__all__ = ["OwnClock"]


class OwnClock:
    """The time now, and times of the wall clock, in steady time: see :mod:`kiptail.clock.steady`. For any thread."""

    def __init__(
        self,
        timeline: Timeline | None = None,
        *,
        boot_id: str = "",
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``timeline`` is what the journal's reader observes, ``boot_id`` that of the running boot."""
        self.timeline = Timeline() if timeline is None else timeline
        #: What the API server's clock shows now, as far as that is known: other machines' clocks go with it.
        self.others: Callable[[], int | None] = lambda: None
        self._boot_id, self._monotonic_ns, self._wall_ns = boot_id, monotonic_ns, wall_ns

    def now_us(self) -> int:
        """Now, in steady time."""
        return self.timeline.at(self._boot_id, self._monotonic_us(), self._wall_ns() // 1000)

    def booted_us(self) -> int:
        """When the machine was booted, in steady time."""
        return self.now_us() - self._monotonic_us()

    def age_s(self, steady_us: int) -> float:
        """Seconds since a time, or since the boot where that is later.

        How long ago an earlier boot was, only the wall clock says: it may be wrong until it has been set.
        """
        return (self.now_us() - max(steady_us, self.booted_us())) / 1e6

    def wall_us(self, steady_us: int) -> int:
        """As :meth:`Timeline.wall`."""
        return self.timeline.wall(steady_us)

    def steady_us(self, wall_us: int) -> int:
        """As :meth:`Timeline.steady`."""
        return self.timeline.steady(wall_us, self.now_us())

    def is_steady(self) -> bool:
        """The wall clock was not set, and other machines' show the same: their times are steady time."""
        theirs_us = self.others()
        agrees = theirs_us is None or abs(theirs_us - self._wall_ns() // 1000) < SLACK_US
        return agrees and self.timeline.is_steady()

    def servers_us(self) -> int:
        """What the API server's wall clock shows now, or else this machine's."""
        theirs_us = self.others()
        return self._wall_ns() // 1000 if theirs_us is None else theirs_us

    def others_us(self, wall_us: int) -> int:
        """The steady time at which the wall clocks of other machines showed that."""
        own_wall_us, theirs_us = self._wall_ns() // 1000, self.others()
        if theirs_us is None or abs(theirs_us - own_wall_us) < SLACK_US:
            theirs_us = own_wall_us
        return wall_us - whole(theirs_us - self.now_us())

    def check(self) -> None:
        """See whether the wall clock was set: not only drops tell. For the thread that reads the journal."""
        self.timeline.observe(self._boot_id, self._monotonic_us(), self._wall_ns() // 1000)

    def _monotonic_us(self) -> int:
        return self._monotonic_ns() // 1000
