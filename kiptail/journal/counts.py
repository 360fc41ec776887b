"""What has been seen of the journal, and what it says that it lacks."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import dataclass

from kiptail.journal.entry import loses_packets, missed_messages, suppressed_messages, text_of
from kiptail.journal.reader import Reader, field
from kiptail.text import one_line

__all__ = ["JournalCounts", "count_notice"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalCounts:
    """What has been seen since the start. They only grow."""

    #: Kernel entries (and journald's notices of missed ones) looked at.
    scanned: int = 0
    #: Lines given out.
    wanted: int = 0
    #: Entries that looked wanted but were not written by the kernel.
    untrusted: int = 0
    #: Kernel messages that the ring buffer overwrote before journald read them, and notices of that.
    missed: int = 0
    missed_notices: int = 0
    #: Lines of ulogd that journald left out, and times that ulogd lost packets, nobody knows how many.
    suppressed: int = 0
    overruns: int = 0
    #: Entries without MESSAGE, or with fields that cannot be read.
    unreadable: int = 0
    #: Times the journal was opened anew.
    reopened: int = 0
    #: Times that entries were found to be deleted before they were read.
    lost: int = 0


def count_notice(
    counts: JournalCounts, reader: Reader, message: bytes, units: Container[bytes], *, of_ulogd: bool
) -> None:
    """Count what ulogd, or journald, says in ``message`` that it lost; an entry that only reads like that is none.

    ``units`` are those in which ulogd runs; ``of_ulogd``: it wrote the entry that the reader is at.
    """
    if of_ulogd:
        if loses_packets(message):
            counts.overruns += 1
            log.warning(
                "ulogd has lost packets, which came faster than it could read them: %s", one_line(text_of(message))
            )
        return
    missed, suppressed = missed_messages(message), suppressed_messages(message)
    if (missed is None and suppressed is None) or field(reader, "_TRANSPORT") != b"driver":
        return
    if missed is not None:
        counts.missed_notices += 1
        counts.missed += missed
        log.warning("journald missed %d kernel messages: the kernel's ring buffer overran", missed)
    elif suppressed is not None and suppressed[1] in units:
        lines, unit = suppressed
        counts.suppressed += lines
        log.warning(
            "journald left out %d lines of %s: set LogRateLimitIntervalSec=0 in that unit",
            lines,
            one_line(text_of(unit)),
        )
