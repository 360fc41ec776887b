"""``kiptail report``: read, add up, write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from kiptail.config.settings import Settings
from kiptail.pods.garbage import uncollected
from kiptail.pods.snapshot import SnapshotIndex
from kiptail.report.as_html import as_html
from kiptail.report.as_text import Screen, as_text
from kiptail.report.ends import By, Ends
from kiptail.report.kernel_lines import KernelLines, Progress
from kiptail.report.known_pods import known_pods
from kiptail.report.records import as_csv, as_json
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally

__all__ = ["By", "Output", "Period", "Screen", "Source", "Wanted", "made", "written"]

Output = Literal["text", "json", "csv", "html"]


class Source(Protocol):
    """Where packets are recorded. Another one, such as records of flows in the journal, is chosen in :func:`made`."""

    def read(self, tally: Tally) -> None:
        """Add up all that belongs to the tally's period. Raises JournalError."""

    def remarks(self) -> list[str]:
        """What is not in the sums, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for."""

    settings: Settings
    period: Period
    #: The cluster was named: it is an error when it does not answer.
    cluster_named: bool
    by: By
    #: Rows of each table of the text.
    most: int
    output: Output


def made(wanted: Wanted, progress: Progress) -> Report:
    """The report. Raises SettingsError, JournalError, ClusterError."""
    with uncollected():
        snapshot = known_pods(wanted.settings, demanded=wanted.cluster_named)
        if snapshot is None:
            ends = Ends(None, {})
        else:
            ends = Ends(SnapshotIndex(snapshot, now_us=time.time_ns() // 1000).owners, snapshot.workloads)
        tally = Tally(ends, wanted.period)
        source: Source = KernelLines(wanted.settings, progress)
        source.read(tally)
        return report_of(tally, source.remarks())


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
