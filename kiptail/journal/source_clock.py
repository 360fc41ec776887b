"""How long before its receipt the kernel wrote an entry (pure): printk's clock beside CLOCK_MONOTONIC.

Times are whole microseconds since the machine's boot.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DELAY_LIMIT_US", "DRIFT", "SourceClock", "source_delay", "syslog_delay"]

#: How fast printk's clock may fall behind CLOCK_MONOTONIC: 1/5000 = 200 ppm. NTP slews the one, not the
#: other.
DRIFT = 5000

#: No journald lags this far behind; a difference that grows by more (µs) is a clock that was set or stood
#: still.
DELAY_LIMIT_US = 600_000_000


@dataclass(frozen=True, slots=True)
class SourceClock:
    """The difference between CLOCK_MONOTONIC and printk's clock, as far as it is drift and no delay.

    It is stored with the position, so that entries which are read again get the same times again.
    """

    boot_id: str
    #: The time since boot, by printk's clock, that ``offset_us`` is for.
    monotonic_us: int
    #: What CLOCK_MONOTONIC is ahead of printk's clock; negative when behind.
    offset_us: int


def source_delay(clock: SourceClock | None, boot_id: str, monotonic_us: int, source_us: int) -> tuple[SourceClock, int]:
    """How long before its receipt the kernel wrote an entry (µs, never negative), and the clock after it.

    ``monotonic_us`` is ``__MONOTONIC_TIMESTAMP`` (receipt, CLOCK_MONOTONIC), ``source_us`` is
    ``_SOURCE_MONOTONIC_TIMESTAMP`` (printk's clock). Their difference is delay plus drift. Drift is what is
    always there: the smallest difference seen, let grow no faster than a clock may drift. The time in which
    it may grow is printk's, not that of the receipts: while journald stands still for minutes the entries it
    will find were written one after the other, and all of its delay is recovered.
    """
    if clock is None or clock.boot_id != boot_id:
        clock = SourceClock(boot_id, 0, 0)
    difference = monotonic_us - source_us
    passed_us = source_us - clock.monotonic_us
    growth = max(0, passed_us) // DRIFT
    baseline = clock.offset_us + growth
    delay = difference - baseline
    if delay <= 0 or delay > DELAY_LIMIT_US:
        return SourceClock(boot_id, max(clock.monotonic_us, source_us), difference), 0
    # Only as much time is used up as the whole microseconds of growth stand for: at thousands of entries a
    # second each would otherwise round its share down to nothing.
    return SourceClock(boot_id, clock.monotonic_us + growth * DRIFT, baseline), delay


def syslog_delay(realtime_us: int, source_us: int | None) -> int:
    """How long before its receipt an entry was written that came by syslog(3) (µs, never negative).

    ``realtime_us`` is ``__REALTIME_TIMESTAMP`` (receipt), ``source_us`` is ``_SOURCE_REALTIME_TIMESTAMP``: when the
    kernel took the datagram, by the same clock. If that was set in between, the difference says nothing.
    """
    if source_us is None or not 0 < realtime_us - source_us <= DELAY_LIMIT_US:
        return 0
    return realtime_us - source_us
