"""The kernel's lines of the journal, and ulogd's where it is configured, read to its end and added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import SLACK_US
from kiptail.config.settings import Settings
from kiptail.errors import JournalError
from kiptail.flows.flow import FlowKey, flow_key
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLine, KnownLines, Line, UnknownLine, lines_of_units
from kiptail.journal.follow import Batch, Journal
from kiptail.journal.reader import running_boot
from kiptail.journal.source import Source
from kiptail.journal.source_clock import DELAY_LIMIT_US
from kiptail.netfilter.parser import Unparsed
from kiptail.netfilter.prefixes import Prefixes
from kiptail.netfilter.reading import Logged, Untrusted, read
from kiptail.report.tally import Tally

__all__ = ["KernelLines", "Progress"]

#: Lines a batch.
BATCH = 8_000

#: Called with the part of the journal that has been read, from 0 to 1 at its end, and the lines with a prefix in that.
Progress = Callable[[float, int], None]


@dataclass(slots=True)
class KernelLines:
    """One of the sources of a report (:class:`kiptail.report.run.Source`)."""

    settings: Settings
    progress: Progress
    #: Lines with a wanted prefix that are not understood, or that no rule with this prefix logged.
    unread: int = 0
    #: Kernel messages that journald did not get.
    missed: int = 0
    #: Lines of ulogd that journald left out, and times that ulogd lost packets.
    suppressed: int = 0
    overruns: int = 0
    #: Prefixes of counted packets whose rules log at a limited rate.
    limited: Sequence[str] = ()
    #: The ids of the boots in which lines with a wanted prefix were written.
    boots: frozenset[str] = frozenset()

    def read(self, tally: Tally) -> None:
        """Add up all lines that stand for lost packets. Raises JournalError."""
        nflog, rules = self.settings.nflog, self.settings.prefixes
        prefixes = Prefixes(rules)
        # Joins what k3s says of one packet in several lines.
        joining = Joining()
        clock = OwnClock(boot_id=running_boot())
        reading: Journal[Line] = Journal(
            directory=self.settings.journal_directory,
            files=self.settings.journal_files,
            wanted=KnownLines(prefixes).wanted,
            needle=b" OUT=" if nflog else prefixes.needle,
            units=lines_of_units(nflog, rules),
            since_us=tally.period.since_us,
            follow=False,
            clock=clock,
        )
        with reading as journal:
            source = Source(self.settings.journal_directory, self.settings.journal_files)
            extent = source.extent().within(*tally.period)
            while True:
                batch = journal.read(BATCH)
                if journal.trouble:
                    raise JournalError(journal.trouble)
                if nflog:
                    batch.lines = joining.joined(batch.lines, batch.times_us)
                self._count(batch, prefixes, clock, tally)
                position = journal.position()
                if batch.at_end or position is None:
                    break
                self.progress(extent.part(position), journal.counts.wanted)
                steady_us = clock.timeline.at(position.boot_id, position.monotonic_us, position.realtime_us)
                if clock.wall_us(steady_us) >= extent.end_us + DELAY_LIMIT_US + SLACK_US:
                    # Whatever comes now was logged after the period.
                    break
            self.progress(1.0, journal.counts.wanted)
            self.boots = journal.boots
            counts = journal.counts
            self.missed, self.suppressed, self.overruns = counts.missed, counts.suppressed, counts.overruns
        limited = prefixes.limited().union(*(source.prefixes(()).limited() for source in nflog))
        self.limited = sorted(limited & {flow.prefix for flow in tally.flows})

    def remarks(self) -> list[str]:
        """What is not in the sums, in words."""
        said = []
        if self.unread:
            said.append(f"{self.unread} lines with a prefix could not be read and are not counted; see kiptail parse")
        if self.missed:
            said.append(f"journald missed {self.missed} kernel messages: there may have been more packets")
        if self.suppressed:
            said.append(f"journald left out {self.suppressed} lines of ulogd: there were more packets")
        if self.overruns:
            said.append(f"ulogd lost packets ({self.overruns} times): there were more")
        if self.limited:
            names = ", ".join(map(repr, self.limited))
            said.append(f"rules log at a limited rate, so there were more packets than lines, with the prefix {names}")
        return said

    def _count(self, batch: Batch[Line], prefixes: Prefixes, clock: OwnClock, tally: Tally) -> None:
        times: dict[Line | str, list[int]] = {}
        wall_us = clock.wall_us
        for line, time_us in zip(batch.lines, batch.times_us, strict=True):
            # By what is known of the clock by now: where it was set within this journal, the lines just before that
            # may be dated as it showed then.
            times.setdefault(line, []).append(wall_us(time_us))
        for line, times_us in times.items():
            if isinstance(line, KnownLine):
                if line.counted:
                    tally.add(line.key, times_us)
            elif isinstance(line, str | UnknownLine):
                key = self._lost(read(line, prefixes) if isinstance(line, str) else line.read())
                if key is not None:
                    tally.add(key, times_us)

    def _lost(self, logged: Logged | Untrusted | None) -> FlowKey | None:
        """The flow of the packet that a line is about, if it did not arrive."""
        if logged is None:
            return None
        if not isinstance(logged, Logged) or isinstance(logged.packet, Unparsed):
            self.unread += 1
            return None
        return flow_key(logged.packet, logged.prefix) if logged.prefix.verdict.is_loss else None
