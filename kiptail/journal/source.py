"""Which journal is read: opened, asked for its ends, and why it cannot be read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kiptail.errors import JournalError
from kiptail.journal.extent import Extent
from kiptail.journal.position import Position, adjoin
from kiptail.journal.reader import (
    ID128,
    Reader,
    field,
    open_directory,
    open_files,
    open_machine,
    position_of,
)
from kiptail.text import one_line

__all__ = ["Source", "reason", "unreadable"]

#: The kernel's, journald's own, and last that of services.
_TRANSPORTS = (b"kernel", b"driver", b"syslog")
_RIGHTS = "add the user to the group systemd-journal, or run as root"


@dataclass(frozen=True, slots=True)
class Source:
    """Which journal is read, and how it is opened."""

    directory: Path | None
    files: tuple[Path, ...]
    #: Units whose entries are let through as well.
    units: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.files:
            return "the journal file " + ", ".join(map(str, self.files))
        return f"the journal directory {self.directory}" if self.directory else "this machine's journal"

    @property
    def grows(self) -> bool:
        """Whether files may come and go: a given list of files stays as it is."""
        return not self.files

    def open(self) -> Reader:
        """A reader at the journal's head, without matches; OSError."""
        if self.files:
            return open_files(self.files)
        return open_machine() if self.directory is None else open_directory(self.directory)

    def end(self) -> tuple[Position | None, int]:
        """The last entry's position, unless :func:`match_kernel` may let it through, and its time; OSError."""
        with contextlib.closing(self.open()) as reader:
            return _last_ignored(reader, _TRANSPORTS if self.units else _TRANSPORTS[:-1]), reader._get_end()

    def extent(self) -> Extent:
        """From the first to the last entry, whatever they are; JournalError."""
        try:
            with contextlib.closing(self.open()) as reader:
                return Extent(reader._get_start(), reader._get_end())
        except OSError as error:
            raise unreadable(self, error) from error

    def deleted_until(self, position: Position) -> int | None:
        """The first entry's time (realtime, µs), unless it is the next one after ``position``; OSError."""
        with contextlib.closing(self.open()) as reader:
            start_us = reader._get_start()
            return start_us if reader._next() and not adjoin(position.cursor, reader._get_cursor()) else None

    def check(self) -> None:
        """JournalError when there is nothing to read: libsystemd says nothing of what it may not read."""
        if self.files:
            for file in self.files:
                refusal = _refusal(file)
                if refusal is not None:
                    raise unreadable(f"the journal file {file}", refusal) from refusal
        elif self.directory is not None:
            _check_directory(self.directory)
        else:
            with contextlib.closing(self.open()) as reader:
                if not reader.has_runtime_files() and not reader.has_persistent_files():
                    # Root may read every journal.
                    problem = "this machine has no journal: see whether systemd-journald runs"
                    if os.geteuid() != 0:
                        problem = f"this machine's journal cannot be read, or there is none: {_RIGHTS}"
                    raise JournalError(
                        f"{problem}; in a container, mount the host's and name it with --journal-directory"
                    )


def _last_ignored(reader: Reader, transports: Sequence[bytes]) -> Position | None:
    """The journal's last entry, unless it may be one that the matches let through, which has one of these."""
    reader.seek_tail()
    if not reader._previous() or field(reader, "_TRANSPORT") in transports:
        return None
    return position_of(reader)


def _check_directory(directory: Path) -> None:
    """JournalError unless some file in ``directory``, or in a MACHINE_ID directory there, can be read."""
    name = f"the journal directory {directory}"
    refusals = []
    try:
        inner = [entry for entry in directory.iterdir() if ID128.fullmatch(entry.name) and entry.is_dir()]
        for folder in [directory, *inner]:
            for file in folder.iterdir():
                if file.name.endswith((".journal", ".journal~")):
                    refusal = _refusal(file)
                    if refusal is None:
                        return
                    refusals.append(refusal)
    except OSError as error:
        raise unreadable(name, error) from error
    if refusals:
        raise unreadable(f"any file of {name}", refusals[0]) from refusals[0]
    raise JournalError(one_line(f"no *.journal files in {name}, nor in a MACHINE_ID directory there"))


def _refusal(file: Path) -> OSError | None:
    """Why ``file`` cannot be read as a journal; None when it can."""
    try:
        open_files([file]).close()
    except OSError as error:
        return error
    return None


def unreadable(name: object, error: OSError) -> JournalError:
    return JournalError(one_line(f"cannot read {name}: {reason(error)}"))


def reason(error: OSError) -> str:
    """What is wrong and what to do, where more is known than the system's text."""
    match error:
        case PermissionError():
            return f"permission denied: {_RIGHTS}"
        case IsADirectoryError():
            return "it is a directory: use --journal-directory"
        case NotADirectoryError():
            return "it is not a directory: use --journal-file"
        case FileNotFoundError():
            return "it does not exist: see --journal-directory and --journal-file"
        case OSError(errno=errno.EBADMSG | errno.ENODATA | errno.EPROTONOSUPPORT):
            return f"{error.strerror}: it is damaged, no journal, or of a newer systemd"
    return str(error.strerror)
