from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from kiptail.errors import JournalError
from kiptail.journal import recovery
from kiptail.journal.recovery import OpenJournal
from kiptail.journal.scanner import JournalCounts

BROKEN = OSError(74, "Bad message")


class Reader:
    def __init__(self, fd: int | OSError = 7) -> None:
        self.fd = fd
        self.called: list[str] = []

    def fileno(self) -> int:
        self.called.append("fileno")
        if isinstance(self.fd, OSError):
            raise self.fd
        return self.fd

    def add_match(self, *args: str) -> None:
        self.called.append("match")

    def add_disjunction(self) -> None: ...

    def close(self) -> None:
        self.called.append("close")


class Source:
    """Opens a new reader each time, unless something is wrong."""

    def __init__(self, grows: bool = True) -> None:
        self.grows = grows
        self.wrong: Exception | None = None
        self.fd: int | OSError = 7
        self.readers: list[Reader] = []

    def __str__(self) -> str:
        return "the journal"

    def check(self) -> None:
        if self.wrong is not None:
            raise self.wrong

    def open(self) -> Any:
        self.readers.append(Reader(self.fd))
        return self.readers[-1]


@pytest.fixture
def source() -> Source:
    return Source()


def journal_of(
    source: Source, go_there: Callable[[Any], None] = lambda reader: None, follow: bool = True
) -> tuple[OpenJournal, JournalCounts]:
    counts = JournalCounts()
    return OpenJournal(source, go_there, counts, follow=follow), counts  # type: ignore[arg-type]


def test_a_reader_goes_where_it_should_before_the_matches_are_set(source: Source) -> None:
    journal, counts = journal_of(source, lambda reader: reader.called.append("there"))
    journal.open()
    (reader,) = source.readers
    assert (journal.reader, journal.fd) == (reader, 7)
    assert reader.called == ["fileno", "there", "match", "match"]
    assert counts.reopened == 0
    journal.close()
    assert (journal.reader, journal.fd, reader.called[-1]) == (None, None, "close")


@pytest.mark.parametrize(("grows", "follow"), [(False, True), (True, False)])
def test_inotify_is_asked_for_only_where_files_come_and_go(grows: bool, follow: bool) -> None:
    source = Source(grows)
    journal, _ = journal_of(source, follow=follow)
    journal.open()
    assert journal.fd is None
    assert "fileno" not in source.readers[0].called


def test_a_lack_of_inotify_is_said_once(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.fd = OSError(24, "Too many open files")
    journal, _ = journal_of(source)
    for _ in range(2):
        journal.open()
        assert (journal.reader, journal.fd) == (source.readers[-1], None)
        journal.close()
    assert caplog.text.count("no inotify (Too many open files") == 1


def test_a_reader_that_cannot_go_there_is_closed(source: Source) -> None:
    def fail(reader: Reader) -> None:
        raise BROKEN

    journal, _ = journal_of(source, fail)
    with pytest.raises(OSError, match="Bad message"):
        journal.open()
    assert source.readers[0].called[-1] == "close"
    assert (journal.reader, journal.fd) == (None, None), "a closed descriptor is nothing to wait for"


def test_after_a_failure_another_reader_takes_over(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    journal, counts = journal_of(source)
    journal.open()
    assert journal.recovers(BROKEN)
    assert source.readers[0].called[-1] == "close"
    assert journal.reader is source.readers[1]
    assert (counts.reopened, journal.trouble) == (1, "")
    assert not caplog.records


def test_a_second_failure_within_a_second_has_to_wait(source: Source) -> None:
    journal, counts = journal_of(source)
    journal.open()
    assert journal.recovers(BROKEN)
    assert not journal.recovers(BROKEN)
    assert (journal.reader, counts.reopened) == (None, 1)
    assert "Bad message" in journal.trouble
    assert not journal.open_again()
    assert len(source.readers) == 2


@pytest.mark.parametrize("wrong", [JournalError("it is away"), OSError(2, "it is away")], ids=["refused", "failed"])
def test_a_trouble_is_logged_when_it_begins_and_when_it_ends(
    source: Source, wrong: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "_REOPEN_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    journal, counts = journal_of(source)
    journal.open()
    source.wrong = wrong
    assert not journal.recovers(BROKEN)
    assert not journal.open_again()
    assert journal.trouble
    assert counts.reopened == 0
    source.wrong = None
    assert journal.open_again()
    journal.end_trouble()
    journal.end_trouble()
    assert journal.trouble == ""
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.records[1].getMessage() == "the journal can be read again"
