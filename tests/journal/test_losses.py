from __future__ import annotations

from typing import Any

import pytest

from kiptail.journal.losses import Losses
from kiptail.journal.position import Position
from kiptail.journal.scanner import JournalCounts

SECOND = 1_000_000
READ = Position("s=1;i=5;", "b", 5 * SECOND, 5 * SECOND)


class Journal:
    """A source, and a reader of it, that know when its first entry was written."""

    def __init__(self, start_us: int, adjoins: bool = False) -> None:
        self.start_us = start_us
        self.adjoins = adjoins

    def _get_start(self) -> int:
        return self.start_us

    def deleted_until(self, position: Position) -> int | None:
        return None if self.adjoins else self.start_us


def reported(journal: Any, *positions: Position) -> int:
    counts = JournalCounts()
    losses = Losses(journal, counts)
    for position in positions:
        losses.report(journal, position)
    return counts.lost


def test_a_journal_that_begins_after_what_was_read_has_lost_entries(caplog: pytest.LogCaptureFixture) -> None:
    assert reported(Journal(9 * SECOND), READ) == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "were deleted before they were read: packet drops may be missing" in record.getMessage()


@pytest.mark.parametrize(
    "journal",
    [
        pytest.param(Journal(READ.realtime_us), id="it begins with what was read"),
        pytest.param(Journal(9 * SECOND, adjoins=True), id="its first entry is the next one"),
    ],
)
def test_where_nothing_is_missing_nothing_is_said(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    assert reported(journal, READ) == 0
    assert not caplog.records


def test_each_loss_is_reported_once() -> None:
    later = Position("s=1;i=7;", "b", 7 * SECOND, 7 * SECOND)
    assert reported(Journal(9 * SECOND), READ, READ) == 1
    assert reported(Journal(9 * SECOND), READ, later, READ, later) == 2
