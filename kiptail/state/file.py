"""The state file itself: where it is, who may use it, how it is begun and opened, and set aside when it cannot be used.

:mod:`kiptail.state.check` says whether it can, :mod:`kiptail.state.schema` what is in it, and
:mod:`kiptail.state.records` what that means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kiptail.errors import StateError, StoreUnavailableError
from kiptail.state.check import BESIDE, Unfit, check, is_damage, is_there, recognise
from kiptail.state.rows import can_sum
from kiptail.state.schema import SCHEMA_VERSION, create, in_memory

__all__ = ["StateFile", "open_state", "sqlite_errors"]

log = logging.getLogger(__name__)

Content = TypeVar("Content")

#: The write-ahead log is folded back into the file at so many pages of 4 KiB. SQLite's own 1,000 would let a file
#: of some ten kilobytes carry four megabytes along, more than a small state directory may have.
_CHECKPOINT_PAGES = 100

#: A file system with fewer bytes left is full.
_FULL_BYTES = 64 * 1024

#: No row is longer, in bytes; one that claims to be must not take all memory.
_LONGEST_ROW = 4 << 20

#: So many files that were set aside are kept, the latest ones: a disk that fails again and again must not fill up.
_KEPT_ASIDE = 5


@dataclass(slots=True)
class StateFile:
    """An open state file, and the lock that keeps others away from it; None for one in memory."""

    connection: sqlite3.Connection
    lock_fd: int | None = None
    #: Where a damaged predecessor was put aside; None when there was none.
    damaged: Path | None = None

    @classmethod
    def in_memory(cls) -> StateFile:
        """One that leaves nothing behind."""
        return cls(in_memory())

    def close(self) -> None:
        """Close the file and let another kiptail have the directory."""
        self.connection.close()
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None


def open_state(
    directory: Path, read: Callable[[sqlite3.Connection], Content], *, machine_id: str = ""
) -> tuple[StateFile, Content]:
    """The state file under ``directory``, which is created with mode 0700, and what ``read`` reads of it.

    A file is set aside, and another one begun, when it is damaged (for which ``read`` has a say: it raises ValueError,
    TypeError, LookupError or RecursionError) or was written on another machine than ``machine_id``; "": nobody knows
    which one this is. Raises :class:`StoreUnavailableError` when the disk is full, :class:`StateError` when waiting
    will not help.
    """
    path = directory / "state.sqlite"
    with sqlite_errors(path), contextlib.ExitStack() as on_error:
        lock_fd = _lock(directory)
        on_error.callback(os.close, lock_fd)
        damaged = None
        try:
            connection, content = _connect(path, read, machine_id)
        except Unfit as unfit:
            aside = _set_aside(path, "foreign" if unfit.other_machine else "damaged")
            if unfit.other_machine:
                log.warning("the state file %s; kept as %s, starting anew", unfit.why, aside)
            else:
                log.error("the state file was damaged (%s); kept as %s, starting anew", unfit.why, aside)
                damaged = aside
            connection, content = _connect(path, read, machine_id)
        on_error.pop_all()
    return StateFile(connection, lock_fd, damaged), content


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Say in kiptail's own errors what SQLite, or the system, could not do with the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        if _is_full(error, path.parent):
            raise StoreUnavailableError(
                f"the state file {path} cannot be written: {text}; make room in its file system"
            ) from error
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            raise StateError(f"the state file {path} is damaged: {text}; the next start sets it aside") from error
        raise StateError(
            f"cannot use the state file {path}: {text}; choose another place with --state-directory"
        ) from error


def _is_full(error: sqlite3.Error | OSError, directory: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return True
    try:
        system = os.statvfs(directory)
    except OSError:
        return False
    # SQLite says no more than "disk I/O error" or "unable to open" when a file cannot be made or grow.
    no_room = system.f_bavail * system.f_frsize < _FULL_BYTES or (system.f_files > 0 and system.f_favail == 0)
    return no_room and isinstance(error, sqlite3.OperationalError)


def _lock(directory: Path) -> int:
    """Create the directory and take its lock, which the kernel gives back when the process ends."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StateError(
            f"cannot use the state directory {directory}: {error.strerror}; choose another with --state-directory"
        ) from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_fd)
        raise StateError(
            f"the state directory {directory} is in use by another kiptail; stop it or choose another directory"
        ) from error
    return lock_fd


def _connect(
    path: Path, read: Callable[[sqlite3.Connection], Content], machine_id: str
) -> tuple[sqlite3.Connection, Content]:
    """The state file, made or brought up to this version if need be; raises sqlite3.Error, OSError, StateError."""
    if not is_there(path):
        _begin(path)
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    try:
        _set_up(connection)
        check(connection, path)
        content = read(connection)
        recognise(connection, path, machine_id)
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        # UnicodeDecodeError is among them: SQLite quotes a broken schema in its errors as it is.
        connection.close()
        raise Unfit(path, "what it holds is not what it should be") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        if is_damage(error):
            raise Unfit(path, str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection, content


def _begin(path: Path) -> None:
    """Make an empty state file, whole from its first moment: one that is empty or half made is damaged."""
    fresh = path.with_name(path.name + ".new")
    # A log that is left over would be taken for this file's.
    for left in [fresh, *(Path(f"{at}{beside}") for at in (path, fresh) for beside in BESIDE)]:
        left.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=MEMORY")  # a crash leaves what the next start makes anew
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN")
            create(connection)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _set_up(connection: sqlite3.Connection) -> None:
    can_sum(connection)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ROW)
    # Ours alone, as the lock says: then no shared memory file is needed beside it.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    # WAL: a commit is one append, and a crash at any moment leaves the last one whole.
    # FULL: it is on the disk before anything of it is sent. NORMAL would do against the death of the process,
    # but after a power failure could forget a flow's name whose Event was sent already, while journald may
    # have kept the entries: they would be counted a second time. It costs about half a millisecond a commit, and
    # there are a few commits a second. (That journald itself writes to the disk only every few minutes does no
    # harm: a position whose entry is gone is found again by its times.)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={8 * _CHECKPOINT_PAGES * 4096}")


def _set_aside(path: Path, why: str) -> Path:
    """Rename the file, and what SQLite keeps beside it; the new name."""
    now_us = time.time_ns() // 1000
    at = time.strftime("%Y%m%dT%H%M%S", time.localtime(now_us // 1_000_000))
    aside = path.with_name(f"{path.name}.{why}-{at}.{now_us % 1_000_000:06}")
    for beside in ("", *BESIDE):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{beside}").rename(f"{aside}{beside}")
    _forget_the_oldest(path)
    return aside


def _forget_the_oldest(path: Path) -> None:
    aside = [file for why in ("damaged", "foreign") for file in path.parent.glob(f"{path.name}.{why}-*")]
    files = {file for file in aside if not file.name.endswith(BESIDE)}
    # By their names, which end with the time, for a rename leaves a file's own times as they were.
    for file in sorted(files, key=lambda file: file.name.partition("-")[2])[:-_KEPT_ASIDE]:
        for beside in ("", *BESIDE):
            with contextlib.suppress(OSError):  # not there, or a directory
                Path(f"{file}{beside}").unlink()
