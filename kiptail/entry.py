"""Raw journal fields → typed :class:`Entry` (pure); which entries are trusted; the time of a drop.

Field names are those of systemd.journal-fields(7).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Entry", "Position", "SourceClock"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One trusted kernel log line that may be a netfilter line."""

    message: str
    #: When the kernel wrote it, µs since the epoch: journald's receipt less the delay the source timestamp shows.
    time_us: int


@dataclass(frozen=True, slots=True)
class SourceClock:
    """The difference between CLOCK_MONOTONIC and printk's clock, as far as it is drift and no delay."""

    boot_id: str
    monotonic_us: int
    offset_us: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far the journal has been read; what the store commits and :class:`kiptail.journal.Journal` resumes from."""

    cursor: str
    boot_id: str
    monotonic_us: int
    realtime_us: int
    clock: SourceClock | None
