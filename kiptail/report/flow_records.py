"""Flow records in the journal, and their packets added up.

docs/records.md has their meaning, docs/report.md what a report makes of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiptail.config.settings import Settings
from kiptail.events.endpoint import RECEIVED, SENT
from kiptail.report.ends import End, Ends
from kiptail.report.growth import Growth, Step
from kiptail.report.kernel_lines import Progress
from kiptail.report.record_reading import SET_US, STEP, RecordReading
from kiptail.report.recorded import Record, Who
from kiptail.report.tally import FlowId, Tally
from kiptail.text import plural

__all__ = ["FlowRecords"]

_SENT, _RECEIVED = f"KIPTAIL_DIRECTION={SENT}", f"KIPTAIL_DIRECTION={RECEIVED}"
_SEVERAL = Who(name="(several)")


@dataclass(slots=True)
class FlowRecords:
    """One of the sources of a report (:class:`kiptail.report.run.Source`): the packets that records tell of.

    A packet between two pods is in a series at either end; it is counted at the sender's. Where flows of one pod are
    counted in one, for they were many, the records do not tell which of them are at other pods' ends as well: then what
    may be counted elsewhere is left out, and said.
    """

    settings: Settings
    progress: Progress
    #: The ids of those whose records count; None: all.
    machines: frozenset[str] | None = None
    #: Packets that were added up, and those that were left out.
    packets: int = 0
    left_out: int = 0
    _remarks: list[str] = field(default_factory=list)
    _limited: set[str] = field(default_factory=set)
    #: The flows that were counted at the sender's end.
    _sent: set[int] = field(default_factory=set)
    #: Of those that were for another pod: its machine and address, and the packets, as long as it has no series of it.
    _half: dict[int, tuple[tuple[str, str], int]] = field(default_factory=dict)
    #: Pods with a series of many flows that they sent: machines and addresses.
    _spreading: set[tuple[str, str]] = field(default_factory=set)

    def read(self, tally: Tally) -> None:
        """Add up what the period's records say. Raises JournalError."""
        reading = RecordReading(self.settings, self.progress)
        since_us = tally.period.since_us
        for growth in self._series(reading, reading.back(since_us, _SENT, parts=(0.0, 0.6)), since_us):
            self._add_sent(growth, tally)
        # Of most of them the sender has a series as well.
        passed = ("KIPTAIL_PAIR", self._is_sent)
        several: list[Growth] = []
        for growth in self._series(
            reading, reading.back(since_us, _RECEIVED, passed=passed, parts=(0.6, 1.0)), since_us
        ):
            if growth.last.peer_kind == "several":
                several.append(growth)
            elif (growth.last.machine, growth.last.src) not in self._spreading or growth.last.peer_kind != "pod":
                # Else it is among those that this pod sent to many.
                self._add(growth, tally)
        self._add_several(several, tally)
        self._remarks = reading.remarks()
        if reading.read:
            self.progress(1.0, reading.read)

    def remarks(self) -> list[str]:
        """What is not in the sums, in words."""
        said = list(self._remarks)
        if self.left_out:
            said.append(
                f"{plural(self.left_out, 'packet')} of many flows to one pod are left out: pods sent some of them, and"
                " records do not tell which"
            )
        if self._limited:
            names = ", ".join(map(repr, sorted(self._limited)))
            said.append(
                f"rules log at a limited rate, so there were more packets than recorded, with the prefix {names}"
            )
        return said

    def _series(
        self, reading: RecordReading, entries: Iterable[tuple[int, Mapping[str, Any]]], since_us: int | None
    ) -> Iterator[Growth]:
        """All series with packets, each once all of its records are known, or all that matter."""
        live: dict[int, Growth] = {}
        done: set[int] = set()
        for at_us, fields in entries:
            series = reading.recorded.series(fields)
            if series is None or series in done:
                continue
            record = reading.recorded.of(fields)
            if record is None or (self.machines is not None and record.machine not in self.machines):
                continue
            growth = live.get(series)
            if growth is None:
                if reading.too_many(len(live) + len(done), at_us):
                    break
                growth = live[series] = Growth(record)
            else:
                growth.add(record)
            if record.placed or (since_us is not None and growth.at_us < since_us):
                done.add(series)
                del live[series]
                growth.end()
                if growth.last.packets:
                    yield growth
            if (
                since_us is not None
                and at_us < since_us - SET_US
                and reading.read % STEP == 0
                and all(growth.first_us >= since_us for growth in live.values())
            ):
                # Of what is left nothing began earlier, so earlier records say nothing of the period.
                break
        for growth in live.values():
            growth.end()
            if growth.last.packets:
                yield growth

    def _add_sent(self, growth: Growth, tally: Tally) -> None:
        record = growth.last
        counted = self._add(growth, tally)
        self._sent.add(record.pair)
        if record.peer_kind == "several":
            self._spreading.add((record.machine, record.src))
        elif record.peer_kind == "pod":
            self._half[record.pair] = (record.machine, record.dst), counted

    def _is_sent(self, pair: bytes) -> bool:
        try:
            number = int(pair, 16)
        except ValueError:
            return False
        self._half.pop(number, None)
        return number in self._sent

    def _add_several(self, several: Iterable[Growth], tally: Tally) -> None:
        """Many flows to one pod in one series: those of pods were counted at the senders' ends."""
        half = Counter[tuple[str, str]]()
        for where, count in self._half.values():
            half[where] += count
        spreading = {machine for machine, _ in self._spreading}
        for growth in several:
            record = growth.last
            # What pods sent was added up for the period alone.
            steps = [step for step in growth.steps if tally.period.has(step.until_us)]
            if record.machine in spreading:
                self.left_out += sum(step.packets for step in steps)
            else:
                growth.steps = list(_less(steps, half[record.machine, record.dst]))
                self._add(growth, tally)

    def _add(self, growth: Growth, tally: Tally) -> int:
        if growth.last.limited:
            self._limited.add(growth.last.prefix)
        counted = tally.add_steps(_flow_id(growth.last, tally.ends), growth.steps)
        self.packets += counted
        return counted


def _less(steps: Iterable[Step], count: int) -> Iterator[Step]:
    """The steps without so many packets."""
    for step in steps:
        left = max(0, step.packets - count)
        count -= step.packets - left
        if left:
            yield step._replace(packets=left)


def _flow_id(record: Record, ends: Ends) -> FlowId:
    own = ends.of(record.own_address, Who(record.namespace, record.pod, record.workload))
    peer = _peer(record, ends)
    return FlowId(
        own if record.sent else peer,
        peer if record.sent else own,
        sys.intern(record.protocol),
        record.port,
        record.icmp_type,
        record.icmp_code,
        record.reply,
        record.prefix,
        record.verdict,
        record.policy,
    )


def _peer(record: Record, ends: Ends) -> End:
    address = record.peer_address
    if record.peer_kind == "several":
        return ends.of(address, _SEVERAL)
    who = record.peer_who()
    return ends.at(address, record.last_us) if who is None else ends.of(address, who)
