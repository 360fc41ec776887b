"""``kiptail report``: read, add up, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from kiptail.config.settings import Settings
from kiptail.flows.known_lines import lines_of_units
from kiptail.journal.source import Source as JournalSource
from kiptail.journal.unit_entries import has_lines
from kiptail.pods.garbage import uncollected
from kiptail.pods.snapshot import Snapshot, SnapshotIndex
from kiptail.policies.cluster import Objects
from kiptail.policies.object_files import files_of, load_objects
from kiptail.report.as_html import as_html
from kiptail.report.as_text import Screen, as_text
from kiptail.report.ends import By, Ends
from kiptail.report.flow_records import FlowRecords
from kiptail.report.kernel_lines import KernelLines, Progress
from kiptail.report.known_pods import known_pods
from kiptail.report.lines_else_records import LinesElseRecords
from kiptail.report.record_reading import RecordNaming, has_records, read_names
from kiptail.report.records import as_csv, as_json
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from kiptail.report.trial import Trial

__all__ = ["Bars", "By", "CountedBy", "Output", "Period", "Screen", "Source", "Wanted", "made", "written"]

Output = Literal["text", "json", "csv", "html"]


#: Makes what shows how far a pass over the journal is, by what it reads.
Bars = Callable[[str], Progress]


class CountedBy(StrEnum):
    """What packets are counted by."""

    #: The kernel's lines, named by flow records; the records of machines whose lines the journal does not have.
    AUTO = "auto"
    LINES = "lines"
    RECORDS = "records"


class Source(Protocol):
    """Where packets are counted; chosen in :func:`made`."""

    def read(self, tally: Tally) -> None:
        """Add up all that belongs to the tally's period. Raises JournalError."""

    def remarks(self) -> list[str]:
        """What is not in the sums, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for."""

    settings: Settings
    period: Period
    counted_by: CountedBy
    #: Files, and directories of them, with policies that are tried.
    policies: tuple[Path, ...]
    #: The cluster was named: it is an error when it does not answer.
    cluster_named: bool
    by: By
    #: Rows of each table of the text.
    most: int
    output: Output


def made(wanted: Wanted, bars: Bars) -> Report:
    """The report. Raises SettingsError, JournalError, ClusterError."""
    settings = wanted.settings
    with uncollected():
        snapshot, trial = _cluster(wanted)
        by, names, naming = wanted.counted_by, None, None
        if by is CountedBy.AUTO and not _has_lines(settings):
            by = CountedBy.RECORDS
        if by is CountedBy.AUTO:
            naming = read_names(settings, wanted.period, bars("records"))
            names = naming.names
        if snapshot is None:
            ends = Ends(None, {}, names)
        else:
            owners = SnapshotIndex(snapshot, now_us=time.time_ns() // 1000).owners
            ends = Ends(owners, snapshot.workloads, names)
        tally = Tally(ends, wanted.period)
        source = _source(settings, by, naming, bars)
        source.read(tally)
        return report_of(tally, source.remarks(), trial)


def _cluster(wanted: Wanted) -> tuple[Snapshot | None, Trial | None]:
    """The pods, if they are known, and the policies that are tried."""
    settings, demanded = wanted.settings, wanted.cluster_named
    recorded = wanted.counted_by is not CountedBy.LINES and has_records(settings)
    if not wanted.policies:
        return known_pods(settings, demanded=demanded, recorded=recorded), None
    objects = Objects()
    files = [file for path in wanted.policies for file in files_of(path, flag="--policies")]
    snapshot = known_pods(settings, demanded=demanded, also=partial(_taken, objects), recorded=recorded)
    load_objects(files, flag="--policies", into=objects)
    return snapshot, Trial(objects, settings.pod_cidrs)


def _taken(objects: Objects, obj: dict[str, Any], kind: str) -> bool:
    """Take in what policies look at. True for what a snapshot has no use for; which policies there are say files."""
    own = obj.get("kind") or kind
    if own in {"Pod", "Namespace"}:
        objects.take(obj, kind)
    return own in {"Namespace", "NetworkPolicy"}


def _has_lines(settings: Settings) -> bool:
    units = tuple(lines_of_units(settings.nflog, settings.prefixes))
    return has_lines(JournalSource(settings.journal_directory, settings.journal_files, units))


def _source(settings: Settings, by: CountedBy, naming: RecordNaming | None, bars: Bars) -> Source:
    if by is CountedBy.RECORDS:
        return FlowRecords(settings, bars("records"))
    lines = KernelLines(settings, bars("lines"))
    return lines if naming is None else LinesElseRecords(lines, naming, partial(bars, "records"))


def written(report: Report, wanted: Wanted, screen: Screen) -> Iterator[str]:
    """The report as text, in pieces."""
    match wanted.output:
        case "json":
            return as_json(report)
        case "csv":
            return as_csv(report)
        case "html":
            return iter((as_html(report, by=wanted.by),))
        case _:
            return as_text(report, by=wanted.by, most=wanted.most, screen=screen)
