"""Whether a state file can be used: its first bytes, its pages, its tables, its rows, and the machine that wrote it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from pathlib import Path

from kiptail.errors import StateError
from kiptail.state.rows import is_sealed
from kiptail.state.schema import MACHINE, SCHEMA_VERSION, TABLES, in_memory
from kiptail.state.steps import bring_up
from kiptail.text import one_line

__all__ = ["BESIDE", "Unfit", "check", "is_damage", "is_there", "recognise"]

log = logging.getLogger(__name__)

#: What SQLite keeps beside a file, by what is added to its name.
BESIDE = ("-wal", "-journal", "-shm")

#: A higher version is damage: it says nothing of a newer kiptail.
_LATEST_VERSION = 1_000

#: SQLite's errors that come of the system, and not of what is in the file.
_SYSTEM_ERRORS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}


class Unfit(StateError):
    """The file cannot be read on, and the next one can: it is to be set aside."""

    def __init__(self, path: Path, why: str, *, other_machine: bool = False) -> None:
        super().__init__(f"the state file {path} cannot be used: {one_line(why)}; the next start sets it aside")
        self.why, self.other_machine = one_line(why), other_machine


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether it comes of what is in the file: all statements are ours and right."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        return False  # a closed file; a row that is refused
    # Text that is no UTF-8 has no code: Python's sqlite3 finds it.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _SYSTEM_ERRORS


def is_there(path: Path) -> bool:
    """Whether there is a state file, by its first bytes; raises Unfit when it is none, StateError when it is newer.

    Opening it as a database could already write to it. Source: "Database File Format" of SQLite, section 1.3, "The
    Database Header".
    """
    for beside in ("", *BESIDE):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(f"{path}{beside}").st_mode):
                raise Unfit(path, "it is no regular file")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        if path.with_name(path.name + "-wal").exists():
            raise Unfit(path, "it is gone, and its write-ahead log is still there") from None
        return False
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise Unfit(path, "it is no SQLite database")
    # Versions of the format for writing and reading: a file with a higher one is not to be written, SQLite would say.
    if not set(header[18:20]) <= {1, 2}:
        raise Unfit(path, "its header is broken")
    _refuse_newer(path, int.from_bytes(header[60:64], "big"))
    return True


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise Unfit, or an error that tells of damage, unless all is as kiptail wrote it.

    A file of an earlier version is brought up to this one.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _refuse_newer(path, version)  # once more: what is in the write-ahead log counts
    if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        raise Unfit(path, "its pages do not fit together")
    if version < SCHEMA_VERSION:
        try:
            bring_up(connection, version)
        except sqlite3.IntegrityError as error:
            raise Unfit(path, f"its rows do not fit together: {error}") from error
        log.info("the state file %s is of version %d now", path, SCHEMA_VERSION)
    with contextlib.closing(in_memory()) as empty:
        if _schema(connection) != _schema(empty):
            raise Unfit(path, "its tables are not those that this version makes")
    if not is_sealed(connection, TABLES):
        raise Unfit(path, "its rows do not match their checksums")


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_schema")
    # Names that begin so are SQLite's own: statistics that somebody had it make.
    return sorted(tuple(map(str, row)) for row in rows if not str(row[0]).startswith("sqlite_"))


def recognise(connection: sqlite3.Connection, path: Path, machine_id: str) -> None:
    """Raise Unfit for another machine's file; note in one that says nothing that it is this one's."""
    written_by = next(MACHINE.load(connection), (1, ""))[1]
    if machine_id and written_by and machine_id != written_by:
        raise Unfit(path, "is another machine's: a copied disk, a backup, or a new machine-id(5)", other_machine=True)
    if machine_id and not written_by:
        MACHINE.save(connection, [(1, machine_id)])


def _refuse_newer(path: Path, version: int) -> None:
    if not 1 <= version <= _LATEST_VERSION:
        raise Unfit(path, f"no kiptail has version {version} of it")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the state file {path} has version {version}, this kiptail knows {SCHEMA_VERSION}:"
            " install the newer kiptail again, or move the file away to start anew"
        )
