"""The kernel's lines of the journal, and the flow records of machines whose lines it does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kiptail.journal.source import Source
from kiptail.journal.unit_entries import machines_of
from kiptail.report.flow_records import FlowRecords
from kiptail.report.kernel_lines import KernelLines, Progress
from kiptail.report.record_reading import RecordNaming
from kiptail.report.tally import Tally
from kiptail.text import plural

__all__ = ["LinesElseRecords"]


@dataclass(slots=True)
class LinesElseRecords:
    """One of the sources of a report (:class:`kiptail.report.run.Source`).

    Each packet has a line, so lines are exact whatever was recorded. Of a machine that sends its records alone to a
    journal of several, those are all there is; no machine is counted by both.
    """

    lines: KernelLines
    #: What all records say.
    naming: RecordNaming
    #: Makes what shows how far counting them is.
    bar: Callable[[], Progress]
    _records: FlowRecords | None = None

    def read(self, tally: Tally) -> None:
        """Add up what either has of the period. Raises JournalError."""
        self.lines.read(tally)
        machines = self.naming.machines
        if machines and self.lines.boots:
            settings = self.lines.settings
            machines -= machines_of(Source(settings.journal_directory, settings.journal_files), self.lines.boots)
        if machines:
            self._records = FlowRecords(self.lines.settings, self.bar(), machines)
            self._records.read(tally)

    def remarks(self) -> list[str]:
        """What is not in the sums, in words."""
        said = [*self.lines.remarks(), *self.naming.remarks]
        if self._records is not None and self._records.packets:
            of = plural(len(self._records.machines or ()), "machine")
            packets = plural(self._records.packets, "packet")
            said.append(f"{packets} of {of} are counted by flow records: their kernel lines are not in the journal")
            said += [text for text in self._records.remarks() if text not in said]
        return said
