"""Flow records read back from the journal's end, and who was where by them. docs/records.md has their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiptail.clock.dates import kubernetes_time
from kiptail.config.settings import Settings
from kiptail.events.flow_record import MESSAGE_IDS, UNIT
from kiptail.journal.source import Source
from kiptail.journal.unit_entries import UnitEntries
from kiptail.report.kernel_lines import Progress
from kiptail.report.recorded import Recorded
from kiptail.report.recorded_names import RecordedNames
from kiptail.report.tally import Period
from kiptail.text import plural

__all__ = ["SET_US", "STEP", "RecordNaming", "RecordReading", "has_records", "read_names"]

#: Series that are distinguished, 0.1 KiB each.
MOST_SERIES = 1_000_000
#: Records between two looks at how far reading is, and whether the rest matters.
STEP = 2_000
#: A record is written after its flow's last packet; so much, in µs, the machine's clock may have been set meanwhile.
SET_US = 3_600 * 1_000_000


@dataclass(slots=True)
class RecordReading:
    """Passes over the records, each from the last one back."""

    settings: Settings
    progress: Progress
    recorded: Recorded = field(default_factory=Recorded)
    read: int = 0
    #: Why not all were read, a sentence each.
    troubles: list[str] = field(default_factory=list)

    def back(
        self,
        since_us: int | None,
        *also: str,
        passed: tuple[str, Callable[[bytes], bool]] | None = None,
        parts: tuple[float, float] = (0.0, 1.0),
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Each entry with its receipt; ``since_us``: how far the pass is thought to go. Raises JournalError.

        ``also`` and ``passed`` are as for :class:`UnitEntries`; ``parts``: which of all reading this pass is.
        """
        source = Source(self.settings.journal_directory, self.settings.journal_files)
        entries = UnitEntries(source, UNIT, tuple(MESSAGE_IDS.values()), also)
        at_us, extent = None, None
        for at_us, fields in entries.back(passed):
            self.read += 1
            if self.read % STEP == 0:
                extent = extent or source.extent().within(since_us, None)
                part = (extent.end_us - at_us) / max(1, extent.end_us - extent.start_us)
                begin, end = parts
                self.progress(min(begin + min(max(0.0, part), 1.0) * (end - begin), 0.999), self.read)
            yield at_us, fields
        if entries.trouble:
            when = "flow records" if at_us is None else f"flow records before {kubernetes_time(at_us)}"
            self.troubles.append(f"{when} cannot be read: {entries.trouble}")

    def too_many(self, series: int, at_us: int) -> bool:
        """No more can be distinguished, which is noted."""
        if series < MOST_SERIES:
            return False
        self.troubles.append(f"flow records before {kubernetes_time(at_us)} are not read: there are too many")
        return True

    def remarks(self) -> list[str]:
        """What was not read, in words."""
        refused = self.recorded.refused
        if not refused:
            return self.troubles
        are = "is" if refused == 1 else "are"
        return [f"{plural(refused, 'flow record')} cannot be read, and {are} passed over", *self.troubles]


@dataclass(frozen=True, slots=True)
class RecordNaming:
    """What records say of who was where."""

    names: RecordedNames
    #: The ids of those that wrote any of the records.
    machines: frozenset[str]
    #: What went wrong, in words.
    remarks: list[str]


def has_records(settings: Settings) -> bool:
    """Whether there is any. Raises JournalError."""
    return next(RecordReading(settings, lambda _part, _read: None).back(None), None) is not None


def read_names(settings: Settings, period: Period, progress: Progress) -> RecordNaming:
    """Who was where in the period, by the last record of each series. Raises JournalError."""
    names, machines, reading = RecordedNames(), set[str](), RecordReading(settings, progress)
    since_us = period.since_us
    seen: set[int] = set()
    for at_us, fields in reading.back(since_us):
        if since_us is not None and at_us < since_us - SET_US:
            break
        series = reading.recorded.series(fields)
        if series is None or series in seen:
            continue
        if reading.too_many(len(seen), at_us):
            break
        seen.add(series)
        record = reading.recorded.of(fields)
        if record is not None and (since_us is None or record.last_us >= since_us):
            machines.add(record.machine)
            names.add(record)
    if reading.read:
        progress(1.0, reading.read)
    return RecordNaming(names, frozenset(machines), reading.remarks())
