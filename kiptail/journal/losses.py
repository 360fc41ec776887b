"""Entries that were deleted before they were read: counted and logged."""

from __future__ import annotations

import logging

from kiptail.clock.dates import log_time
from kiptail.journal.position import Position
from kiptail.journal.reader import Reader
from kiptail.journal.scanner import JournalCounts
from kiptail.journal.source import Source

__all__ = ["Losses"]

log = logging.getLogger(__name__)


class Losses:
    """Reports each loss once."""

    def __init__(self, source: Source, counts: JournalCounts) -> None:
        self._source = source
        self._counts = counts
        #: The position (realtime, µs) of the last one that was reported.
        self._reported_us = -1

    def report(self, reader: Reader, position: Position) -> None:
        """Count and log it when entries after ``position`` were deleted: all that is left is later; OSError."""
        if reader._get_start() <= position.realtime_us or position.realtime_us <= self._reported_us:
            return
        start_us = self._source.deleted_until(position)
        if start_us is None:
            return
        self._reported_us = position.realtime_us
        self._counts.lost += 1
        log.warning(
            "journal entries from %s to %s were deleted before they were read: packet drops may be missing",
            log_time(position.realtime_us),
            log_time(start_us),
        )
