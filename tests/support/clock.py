"""A clock that tests move by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline

__all__ = ["RUNNING", "Clock", "Machine", "own_clock"]

#: The id of a boot of which nothing is in any journal, unless a test says so.
RUNNING = "b00700000000000000000000000000ff"


class Clock:
    """Seconds, since whenever the test says."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def own_clock(
    wall: Callable[[], float],
    monotonic: Callable[[], float] | None = None,
    *,
    timeline: Timeline | None = None,
    boot_id: str = RUNNING,
) -> OwnClock:
    """A machine's clocks that tests move by hand: CLOCK_REALTIME, and CLOCK_MONOTONIC, which else goes with it."""
    uptime = monotonic or wall
    return OwnClock(
        timeline,
        boot_id=boot_id,
        monotonic_ns=lambda: round(uptime() * 1e9),
        wall_ns=lambda: round(wall() * 1e9),
    )


@dataclass(frozen=True)
class Machine:
    """A machine whose wall clock is wrong at times. All in seconds, of a clock that is right."""

    booted: float
    #: By how much it is wrong from when on, in their order; right before.
    errors: Sequence[tuple[float, float]] = ()
    boot_id: str = RUNNING

    def error(self, at: float) -> float:
        """By how much the wall clock is ahead at that time."""
        return next((error for begin, error in reversed(self.errors) if begin <= at), 0.0)

    def wall_us(self, at: float) -> int:
        """What the wall clock shows, in µs since the epoch."""
        return round((at + self.error(at)) * 1e6)

    def monotonic_us(self, at: float) -> int:
        """What CLOCK_MONOTONIC shows, in µs since the boot."""
        return round((at - self.booted) * 1e6)

    def clock(self, now: Callable[[], float], timeline: Timeline | None = None) -> OwnClock:
        """Its clocks, as kiptail sees them."""
        return own_clock(
            lambda: now() + self.error(now()), lambda: now() - self.booted, timeline=timeline, boot_id=self.boot_id
        )
