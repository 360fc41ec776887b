"""How much of a journal, or of a period of it, has been read (pure)."""

from __future__ import annotations

from typing import NamedTuple

from kiptail.journal.position import Position

__all__ = ["Extent"]


class Extent(NamedTuple):
    """From when to when there are entries to be read: by journald's receipt, µs since the epoch."""

    start_us: int
    end_us: int

    def within(self, since_us: int | None, until_us: int | None) -> Extent:
        """As far as it is in a period; None where that has no bound."""
        start_us = self.start_us if since_us is None else max(self.start_us, since_us)
        return Extent(start_us, self.end_us if until_us is None else min(self.end_us, until_us))

    def part(self, position: Position | None) -> float:
        """What has been read when reading has got there, from 0 to 1."""
        if position is None:
            return 0.0
        return min(max(0.0, (position.realtime_us - self.start_us) / max(1, self.end_us - self.start_us)), 1.0)
