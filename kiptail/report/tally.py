"""Packets added up: by flow, and by time (pure). Every packet is in one flow."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kiptail.flows.flow import FlowKey
from kiptail.report.ends import OTHERS, End, Ends
from kiptail.report.growth import Step
from kiptail.report.moments import Moments

__all__ = ["Bars", "Flow", "FlowId", "Period", "Tally"]

#: Flows that are distinguished: 0.4 KiB each. Packets of further ones are counted together.
MOST_FLOWS = 500_000
#: Stretches of time that are counted apart, and the shortest, in µs.
MOST_STRETCHES, SHORTEST_US = 4_096, 1_000_000


class Period(NamedTuple):
    """The times that a report is about, µs since the epoch; None where it is not bounded."""

    #: Its first moment.
    since_us: int | None = None
    #: The moment with which it is over.
    until_us: int | None = None

    def has(self, at_us: int) -> bool:
        """Whether a packet of that time belongs to it."""
        return (self.since_us is None or self.since_us <= at_us) and (self.until_us is None or at_us < self.until_us)


class FlowId(NamedTuple):
    """What makes two packets the same flow: as :class:`FlowKey`, with who was at its ends."""

    src: End
    dst: End
    protocol: str
    #: The service's port; None where there is none.
    port: int | None
    icmp_type: int | None
    icmp_code: int | None
    reply: bool
    prefix: str
    verdict: str
    policy: str


@dataclass(slots=True, eq=False)
class Flow:
    """Packets that belong together; times are theirs, in µs since the epoch."""

    id: FlowId
    count: int
    first_us: int
    last_us: int

    def add(self, count: int, first_us: int, last_us: int) -> None:
        """Count more of them."""
        self.count += count
        self.first_us = min(self.first_us, first_us)
        self.last_us = max(self.last_us, last_us)


class Bars:
    """How many packets there were when: exact to a second at first, and to twice that whenever it gets too long."""

    def __init__(self) -> None:
        self.width_us = SHORTEST_US
        self._counts: Counter[int] = Counter()

    def add(self, times_us: Sequence[int]) -> None:
        """Count a packet at each of these times."""
        width_us = self.width_us
        self._counts.update([time_us // width_us for time_us in times_us])
        self._narrow()

    def add_at(self, time_us: int, count: int) -> None:
        """Count packets at one time."""
        self._counts[time_us // self.width_us] += count
        self._narrow()

    def columns(self, from_us: int, to_us: int, number: int) -> list[int]:
        """The packets in each of some equal parts of a time; what was before or after is in the first or last."""
        columns = [0] * number
        span_us = max(1, to_us - from_us)
        for at, count in self._counts.items():
            middle_us = at * self.width_us + self.width_us // 2
            columns[min(max(0, (middle_us - from_us) * number // span_us), number - 1)] += count
        return columns

    def _narrow(self) -> None:
        while len(self._counts) > MOST_STRETCHES:
            self.width_us *= 2
            wider: Counter[int] = Counter()
            for at, count in self._counts.items():
                wider[at // 2] += count
            self._counts = wider


@dataclass(slots=True)
class Tally:
    """What was counted so far."""

    ends: Ends
    period: Period
    packets: int = 0
    bars: Bars = field(default_factory=Bars)
    moments: Moments = field(default_factory=Moments)
    flows: dict[FlowId, Flow] = field(default_factory=dict)

    def add(self, key: FlowKey, times_us: Sequence[int]) -> None:
        """Count packets of a flow, at least one, at these times of the wall clock: those of the period."""
        if self.period != (None, None):
            times_us = [time_us for time_us in times_us if self.period.has(time_us)]
            if not times_us:
                return
        self.packets += len(times_us)
        self.bars.add(times_us)
        first_us, last_us = min(times_us), max(times_us)
        if self.ends.stays(key.src, first_us, last_us) and self.ends.stays(key.dst, first_us, last_us):
            self._add(key, times_us, first_us, last_us)
        else:
            for time_us in times_us:
                self._add(key, (time_us,), time_us, time_us)

    def add_steps(self, one: FlowId, steps: Iterable[Step]) -> int:
        """Count packets of a flow by how it grew: the steps that ended in the period. Gives how many those were."""
        within = [step for step in steps if self.period.has(step.until_us)]
        if not within:
            return 0
        counts: Counter[int] = Counter()
        for step in within:
            counts[step.until_us] += step.packets
        for time_us, packets in counts.items():
            self.bars.add_at(time_us, packets)
        count, last_us = counts.total(), max(counts)
        first_us = min(last_us, max(min(step.since_us for step in within), self.period.since_us or 0))
        self.packets += count
        self._count(one, counts, first_us, last_us)
        return count

    def _add(self, key: FlowKey, times_us: Sequence[int], first_us: int, last_us: int) -> None:
        one = FlowId(
            self.ends.at(key.src, first_us),
            self.ends.at(key.dst, first_us),
            sys.intern(key.protocol),
            key.port,
            key.icmp_type,
            key.icmp_code,
            key.reply,
            key.prefix,
            key.verdict,
            key.policy,
        )
        self._count(one, Counter(times_us), first_us, last_us)

    def _count(self, one: FlowId, counts: Counter[int], first_us: int, last_us: int) -> None:
        flow = self.flows.get(one)
        if flow is None and len(self.flows) >= MOST_FLOWS:
            one = FlowId(OTHERS, OTHERS, "", None, None, None, reply=False, prefix="", verdict=one.verdict, policy="")
            flow = self.flows.get(one)
        if flow is None:
            flow = self.flows[one] = Flow(one, 0, first_us, last_us)
        self.moments.add(flow, counts)
        flow.add(counts.total(), first_us, last_us)
