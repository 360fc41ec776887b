from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kiptail.journal.poller import Poller


class Reader:
    """One that knows the journal's end only."""

    def __init__(self, end_us: int | OSError = 5) -> None:
        self.end_us = end_us

    def _get_end(self) -> int:
        if isinstance(self.end_us, OSError):
            raise self.end_us
        return self.end_us


def waited(poller: Poller, reader: Any, timeout: float, *fds: int | None) -> float:
    started = time.monotonic()
    poller.wait(timeout, reader, *fds)
    return time.monotonic() - started


def settled(reader: Reader) -> Poller:
    """One that has seen two reads that began at the same end."""
    poller = Poller()
    poller.note_end(reader)  # type: ignore[arg-type]
    poller.note_end(reader)  # type: ignore[arg-type]
    return poller


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_wait_lasts_until_its_time_is_over_while_nothing_is_written() -> None:
    reader = Reader()
    assert waited(settled(reader), reader, 0.25) >= 0.25


@pytest.mark.parametrize("end_us", [6, OSError(74, "Bad message")], ids=["another end", "no answer"])
def test_a_wait_ends_at_a_poll_that_finds_something(end_us: int | OSError) -> None:
    reader = Reader()
    poller = settled(reader)
    reader.end_us = end_us
    assert waited(poller, reader, 30) < 5


def test_an_end_that_was_seen_once_is_read_up_to_again() -> None:
    """The entry may not be in the lists that the matches look in yet."""
    reader = Reader()
    poller = Poller()
    poller.note_end(reader)  # type: ignore[arg-type]
    assert waited(poller, reader, 30) < 5


def test_without_a_reader_a_poll_ends_the_wait() -> None:
    assert waited(settled(Reader()), None, 30) < 5


def test_soon_after_an_entry_the_wait_is_short() -> None:
    reader = Reader()
    poller = settled(reader)
    poller.note_entries()
    assert waited(poller, reader, 30) < 5


def test_any_descriptor_ends_the_wait(pipe: tuple[int, int]) -> None:
    reader = Reader()
    poller = settled(reader)
    assert waited(poller, reader, 0.2, pipe[0], None) >= 0.2
    os.write(pipe[1], b"\0")
    assert waited(poller, reader, 30, None, pipe[0]) < 5


def test_an_end_that_cannot_be_asked_for_is_the_readers_failure() -> None:
    with pytest.raises(OSError, match="Bad message"):
        Poller().note_end(Reader(OSError(74, "Bad message")))  # type: ignore[arg-type]
