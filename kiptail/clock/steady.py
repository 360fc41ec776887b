"""A time that no step of the wall clock breaks (pure).

Steady time is the wall clock's time as long as that is not set. When it is set, by more than :data:`SLACK_US`, steady
time goes on as CLOCK_MONOTONIC does, and how far the wall clock is ahead of it is remembered. Flows, windows and ages
live in steady time; the wall clock's is shown to people, and received from other machines.

All times are in µs: *wall* and *steady* since the epoch, *monotonic* since the machine's boot.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["JITTER_US", "SLACK_US", "Stretch", "Timeline", "Times", "whole"]

SECOND_US = 1_000_000

#: The wall clock may be set by this much without any harm, in µs: what depends on the order of drops allows for more.
SLACK_US = 10_000_000

#: journald reads one clock after the other: a difference of less than this is no step.
JITTER_US = 1_000

#: A machine is up for 30 years at most.
LONGEST_UP_US = 30 * 366 * 86_400 * SECOND_US

#: The most settings of the clock that are remembered.
MAX_STRETCHES = 32


class Stretch(NamedTuple):
    """From one setting of the wall clock, or the boot, to the next."""

    boot_id: str
    #: The steady time at which it begins.
    from_us: int
    #: The wall clock less CLOCK_MONOTONIC, as seen last.
    offset_us: int
    #: The wall clock less steady time, in whole seconds: what Kubernetes dates remains so in steady time.
    ahead_us: int


class Times(NamedTuple):
    """All that is kept of a :class:`Timeline`."""

    #: In the order in which they were seen.
    stretches: tuple[Stretch, ...] = ()
    #: The latest steady time of all that was observed.
    last_us: int = 0

    @classmethod
    def restored(cls, stored: Any) -> Times:
        """What was stored as JSON, which knows no tuples; ValueError or TypeError when it cannot be that."""
        stretches, last_us = stored
        return cls(tuple(Stretch(*stretch) for stretch in stretches), last_us)


class Timeline:
    """What was seen of a machine's clocks. One thread observes; others may ask."""

    def __init__(self, times: Times | None = None) -> None:
        """``times`` is another timeline's, which this one continues."""
        #: Replaced as a whole, for other threads' sake.
        self.stretches, self.last_us = times or Times()

    @classmethod
    def begun(cls, boot_id: str, monotonic_us: int, wall_us: int, *, not_before_us: int) -> Timeline:
        """One of which only an entry's clocks, and a time that is over, are known: an earlier version stored these.

        That time may be wrong by hours, of a line that was logged while the wall clock was ahead.
        """
        ahead_us = whole(wall_us - not_before_us) if not_before_us > wall_us + SLACK_US else 0
        offset_us = wall_us - monotonic_us
        return cls(Times((Stretch(boot_id, offset_us - ahead_us, offset_us, ahead_us),), wall_us - ahead_us))

    @property
    def times(self) -> Times:
        """What another timeline can continue."""
        return Times(self.stretches, self.last_us)

    def observe(self, boot_id: str, monotonic_us: int, wall_us: int) -> int:
        """The steady time of something in the journal, by the two clocks of its boot.

        They are believed, unless that is longer than any machine is up: a damaged file can say anything.
        """
        if not 0 <= monotonic_us <= LONGEST_UP_US:
            latest = self._of_boot(boot_id) or (self.stretches[-1] if self.stretches else None)
            return wall_us - (latest.ahead_us if latest else 0)
        latest = self._of_boot(boot_id)
        stretch = self._stretch(latest, boot_id, monotonic_us, wall_us)
        if latest is None or stretch.ahead_us != latest.ahead_us:
            self.stretches = (*self.stretches[1 - MAX_STRETCHES :], stretch)
        elif stretch is not latest:
            self.stretches = tuple(stretch if one is latest else one for one in self.stretches)
        steady_us = wall_us - stretch.ahead_us
        self.last_us = max(self.last_us, steady_us)
        return steady_us

    def at(self, boot_id: str, monotonic_us: int, wall_us: int) -> int:
        """The steady time of a moment of which only that is asked."""
        return wall_us - self._stretch(self._of_boot(boot_id), boot_id, monotonic_us, wall_us).ahead_us

    def is_steady(self) -> bool:
        """The wall clock's time is steady time."""
        return not any(stretch.ahead_us for stretch in self.stretches)

    def wall(self, steady_us: int) -> int:
        """What a clock that is right would have shown then, if the boot's wall clock is right by now."""
        stretches = self.stretches
        if self.is_steady():
            return steady_us
        begun = max(
            (stretch for stretch in stretches if stretch.from_us <= steady_us),
            key=lambda stretch: stretch.from_us,
            default=stretches[0],
        )
        latest = self._of_boot(begun.boot_id) or begun
        return steady_us + latest.ahead_us

    def steady(self, wall_us: int, now_us: int) -> int:
        """The steady time, up to ``now_us``, at which this machine's wall clock showed that, right or wrong.

        As this node's kubelet dates things: cut to whole seconds. Where the clock never showed it, whoever dated it
        had another one, which is taken for right.
        """
        if self.is_steady():
            return wall_us
        ordered = sorted(self.stretches, key=lambda stretch: stretch.from_us)
        end_us = now_us + SLACK_US
        for stretch in reversed(ordered):
            steady_us = wall_us - stretch.ahead_us
            if stretch.from_us - SECOND_US < steady_us < end_us:
                return steady_us
            end_us = stretch.from_us
        # By each boot's clock as it was set in the end.
        steady_us = wall_us - ordered[-1].ahead_us
        for boot_id in dict.fromkeys(stretch.boot_id for stretch in reversed(ordered)):
            own = [stretch for stretch in ordered if stretch.boot_id == boot_id]
            by_boot_us = wall_us - own[-1].ahead_us
            if own[0].from_us <= by_boot_us:
                return by_boot_us
        return steady_us

    def _of_boot(self, boot_id: str) -> Stretch | None:
        """The latest stretch of a boot."""
        for stretch in reversed(self.stretches):
            if stretch.boot_id == boot_id:
                return stretch
        return None

    def _stretch(self, latest: Stretch | None, boot_id: str, monotonic_us: int, wall_us: int) -> Stretch:
        """The one that a moment with these clocks is in: the ``latest`` of its boot, or how another one begins."""
        offset_us = wall_us - monotonic_us
        if latest is None:
            return self._booted(boot_id, offset_us, wall_us)
        jump_us = offset_us - latest.offset_us
        if abs(jump_us) > SLACK_US:
            ahead_us = latest.ahead_us + whole(jump_us)
            return Stretch(boot_id, wall_us - ahead_us, offset_us, ahead_us)
        return latest._replace(offset_us=offset_us) if abs(jump_us) > JITTER_US else latest

    def _booted(self, boot_id: str, offset_us: int, wall_us: int) -> Stretch:
        """How a boot of which nothing was observed begins."""
        if not self.stretches:
            return Stretch(boot_id, offset_us, offset_us, 0)
        ahead_us = self.stretches[-1].ahead_us
        steady_us = wall_us - ahead_us
        if steady_us < self.last_us - SLACK_US:
            # A boot is later than the one before. That all of it is, whatever of it is read first, makes what is
            # counted twice after a crash the same.
            ahead_us = (offset_us - self.last_us - 1) // SECOND_US * SECOND_US
            return Stretch(boot_id, offset_us - ahead_us, offset_us, ahead_us)
        return Stretch(boot_id, steady_us, offset_us, ahead_us)


def whole(us: int) -> int:
    """To the nearest second."""
    return (us + SECOND_US // 2) // SECOND_US * SECOND_US
