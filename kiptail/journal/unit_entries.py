"""What a unit has sent to the journal, read back from its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kiptail.journal.reader import ID128, Reader, field, match_kernel, match_unit
from kiptail.journal.source import Source, reason, unreadable

__all__ = ["UnitEntries", "UnitEntry", "has_lines", "machines_of"]

#: Entries after which the journal is opened anew: what was read of its files stays mapped until then, some KiB each.
FRESH = 20_000


class UnitEntry(NamedTuple):
    """An entry as it is stored; each value is bytes, or a list of them for a field that occurs several times."""

    #: Journald's receipt, µs since the epoch.
    realtime_us: int
    fields: dict[str, Any]


@dataclass(slots=True)
class UnitEntries:
    """The entries of one unit with certain ids, latest first."""

    source: Source
    unit: str
    message_ids: Sequence[str]
    #: Further fields that all of them have, as ``NAME=VALUE``.
    also: Sequence[str] = ()
    #: Why reading ended before the journal's first entry, in one line, or "".
    trouble: str = ""

    def back(self, passed: tuple[str, Callable[[bytes], bool]] | None = None) -> Iterator[UnitEntry]:
        """The entries that there are by now. Raises JournalError when the journal cannot be opened.

        ``passed``: a field, and of which of its values no more is wanted than that.
        """
        cursor = ""
        while True:
            with contextlib.closing(self._opened(cursor)) as reader:
                for _ in range(FRESH):
                    if not self._goes_back(reader):
                        return
                    try:
                        if passed is not None and passed[1](reader._get(passed[0])):
                            continue
                        entry = UnitEntry(reader._get_realtime(), reader._get_all())
                    except (LookupError, ValueError, OSError):
                        continue  # damaged, gone, or without that field
                    yield entry
                try:
                    cursor = reader._get_cursor()
                except OSError as error:
                    self.trouble = reason(error)
                    return

    def _opened(self, cursor: str) -> Reader:
        """At the end, or at the entry with this cursor."""
        try:
            self.source.check()
            reader = self.source.open()
            match_unit(reader, self.unit, self.message_ids)
            if self.also:
                reader.add_match(*self.also)
            if cursor:
                # If the entry was deleted meanwhile, so were all before it.
                reader.seek_cursor(cursor)
                reader._next()
            else:
                reader.seek_tail()
        except OSError as error:
            raise unreadable(self.source, error) from error
        return reader

    def _goes_back(self, reader: Reader) -> bool:
        try:
            return reader._previous()
        except OSError as error:
            # What is later was read all the same.
            self.trouble = reason(error)
            return False


def has_lines(source: Source) -> bool:
    """Whether the journal has any entry of the kernel, or of the source's units of ulogd. Raises JournalError."""
    try:
        source.check()
        with contextlib.closing(source.open()) as reader:
            match_kernel(reader, source.units)
            reader.seek_head()
            return reader._next()
    except OSError as error:
        raise unreadable(source, error) from error


def machines_of(source: Source, boots: frozenset[str]) -> frozenset[str]:
    """The ids of the machines whose boots these are. Raises JournalError."""
    machines = set()
    try:
        with contextlib.closing(source.open()) as reader:
            for boot in filter(ID128.fullmatch, boots):
                reader.flush_matches()
                reader.add_match(f"_BOOT_ID={boot}")
                reader.seek_head()
                if reader._next():
                    machines.add(field(reader, "_MACHINE_ID").decode("ascii", "replace"))
    except OSError as error:
        raise unreadable(source, error) from error
    return frozenset(machines)
