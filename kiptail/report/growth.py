"""How a series of flow records grew, read back from its last record (pure).

Counts are absolute, and a later one corrects earlier ones: what was taken out of a flow had been counted too early. So
no record counts more than any later one, and what there was more from one to the next belongs to the time of the later
one's last packet. Added up over any periods that follow each other, that is the series' last count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kiptail.report.recorded import Record

__all__ = ["Growth", "Step"]


class Step(NamedTuple):
    """So many packets came between these times, µs since the epoch."""

    since_us: int
    until_us: int
    packets: int


@dataclass(slots=True)
class Growth:
    """Of one series, from its last record on."""

    last: Record
    #: What is known to have come when, latest first.
    steps: list[Step] = field(default_factory=list)
    #: The count of the earliest record so far, as later ones correct it, and when its last packet was.
    count: int = 0
    at_us: int = 0
    #: When the flow began, by the earliest record so far.
    first_us: int = 0

    def __post_init__(self) -> None:
        self.count, self.at_us, self.first_us = self.last.packets, self.last.last_us, self.last.first_us

    def add(self, earlier: Record) -> None:
        """Note the record before those that are known."""
        count = min(self.count, earlier.packets)
        self._step(count, earlier.last_us if count else earlier.first_us)
        self.at_us = min(self.at_us, earlier.last_us)
        self.first_us = earlier.first_us

    def end(self) -> None:
        """There is no earlier record: the rest came since the flow began."""
        self._step(0, self.first_us)

    def _step(self, count: int, since_us: int) -> None:
        if count < self.count:
            self.steps.append(Step(min(since_us, self.at_us), self.at_us, self.count - count))
        self.count = count
