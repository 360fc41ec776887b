"""The state file itself: where it is, who may use it, what version it has, and what to do when it is damaged.

:mod:`kiptail.store` knows what is in it.
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

from kiptail.errors import StateError, StoreUnavailableError

__all__ = ["SCHEMA", "SCHEMA_VERSION", "StateFile", "open_state", "sqlite_errors"]

log = logging.getLogger(__name__)

#: ``PRAGMA user_version`` of the schema below.
SCHEMA_VERSION = 4

#: The tables that version 2 brought: a new file and one that is brought up to it get the same.
_SINCE_2 = """
-- The flows that an address was admitted with, as digests one after the other.
CREATE TABLE budget (
    address TEXT NOT NULL, side TEXT NOT NULL, since_us INTEGER NOT NULL, flows BLOB NOT NULL,
    PRIMARY KEY (address, side)
) WITHOUT ROWID;
-- Since when and until when pods of this node owned their addresses; NULL: the latter is not over.
CREATE TABLE interval (
    address TEXT NOT NULL, key TEXT NOT NULL, since_us INTEGER NOT NULL, until_us INTEGER,
    unseen_end INTEGER NOT NULL, sure_us INTEGER,
    namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, label TEXT NOT NULL,
    PRIMARY KEY (address, key, since_us)
) WITHOUT ROWID;
CREATE TABLE pod_news (id INTEGER PRIMARY KEY CHECK (id = 1), at_us INTEGER NOT NULL);
"""

#: What version 3 brought: flows can be cut, Events can be withdrawn, and ends of ownership have bounds.
_SINCE_3 = """
-- The side that is this machine itself; how the count grew; whether drops of several owners cannot be told apart.
ALTER TABLE flow ADD COLUMN here TEXT NOT NULL DEFAULT '';
ALTER TABLE flow ADD COLUMN trail BLOB;
ALTER TABLE flow ADD COLUMN mixed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;
-- The Event of a pod that is, or was taken for, one end of a flow; pod: [namespace, name, uid, label].
CREATE TABLE event (
    flow_id INTEGER NOT NULL REFERENCES flow (id) ON DELETE CASCADE, side TEXT NOT NULL, uid TEXT NOT NULL,
    pod TEXT NOT NULL, name TEXT NOT NULL, message TEXT NOT NULL,
    sent_count INTEGER NOT NULL, sent_message TEXT NOT NULL, sent_at_us INTEGER NOT NULL, writes INTEGER NOT NULL,
    rounds INTEGER NOT NULL, given_up TEXT NOT NULL, withdrawn INTEGER NOT NULL,
    PRIMARY KEY (flow_id, side, uid)
) WITHOUT ROWID;
INSERT INTO event SELECT flow_id, side, json_extract(pods, '$[0][2]'), json_extract(pods, '$[0]'), event_name, message,
    coalesce(sent_count, 0), coalesce(sent_message, ''), coalesce(sent_at_us, 0), coalesce(writes, 0),
    coalesce(rounds, 0), coalesce(given_up, ''), 0
    FROM endpoint WHERE event_name IS NOT NULL AND json_array_length(pods) > 0;
ALTER TABLE endpoint DROP COLUMN event_name;
ALTER TABLE endpoint DROP COLUMN message;
ALTER TABLE endpoint DROP COLUMN sent_count;
ALTER TABLE endpoint DROP COLUMN sent_message;
ALTER TABLE endpoint DROP COLUMN sent_at_us;
ALTER TABLE endpoint DROP COLUMN writes;
ALTER TABLE endpoint DROP COLUMN rounds;
ALTER TABLE endpoint DROP COLUMN given_up;
-- The end of an ownership: not before held_us, NULL while the pod means to stay; not after until_us, NULL while
-- nothing says that it has ended. All in whole seconds.
ALTER TABLE interval ADD COLUMN held_us INTEGER;
ALTER TABLE interval ADD COLUMN after_gap INTEGER NOT NULL DEFAULT 0;
-- Of two that began in the same second, the later one is left.
UPDATE OR REPLACE interval SET since_us = since_us / 1000000 * 1000000,
    sure_us = coalesce(sure_us, since_us) / 1000000 * 1000000 + 1000000,
    held_us = until_us / 1000000 * 1000000, until_us = until_us / 1000000 * 1000000 + 1000000;
"""

#: What version 4 brought: what was seen of the machine's clocks.
_SINCE_4 = """
ALTER TABLE position ADD COLUMN times TEXT;
"""

SCHEMA = (
    """
CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cursor TEXT NOT NULL, boot_id TEXT NOT NULL, monotonic_us INTEGER NOT NULL, realtime_us INTEGER NOT NULL,
    clock_boot_id TEXT, clock_monotonic_us INTEGER, clock_offset_us INTEGER
);
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1), watermark_us INTEGER NOT NULL, next_flow_id INTEGER NOT NULL,
    last_stamp INTEGER NOT NULL DEFAULT 0,
    window_us INTEGER NOT NULL DEFAULT 0, new_addresses INTEGER NOT NULL DEFAULT 0,
    new_pairs INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    src TEXT NOT NULL, dst TEXT NOT NULL, protocol TEXT NOT NULL, port INTEGER,
    icmp_type INTEGER, icmp_code INTEGER, reply INTEGER NOT NULL,
    prefix TEXT NOT NULL, verdict TEXT NOT NULL,
    opened_us INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, seen_us INTEGER NOT NULL,
    count INTEGER NOT NULL, ended INTEGER NOT NULL,
    -- The sides it tells, and of a folded flow the bitmaps of its peers and ports.
    sides TEXT NOT NULL DEFAULT 'src,dst', peers BLOB, ports BLOB,
    stamp INTEGER NOT NULL DEFAULT 0
);
-- One end of a flow, once it is decided who was there. Only a pod's end has an Event, and not each of those.
CREATE TABLE endpoint (
    flow_id INTEGER NOT NULL REFERENCES flow (id) ON DELETE CASCADE, side TEXT NOT NULL,
    state TEXT NOT NULL, name TEXT NOT NULL DEFAULT '',
    -- Of all who may have been there: [[namespace, name, uid, label], …].
    pods TEXT NOT NULL DEFAULT '[]',
    event_name TEXT, message TEXT,
    sent_count INTEGER, sent_message TEXT, sent_at_us INTEGER, writes INTEGER, rounds INTEGER, given_up TEXT,
    PRIMARY KEY (flow_id, side)
) WITHOUT ROWID;
"""
    + _SINCE_2
    + _SINCE_3
    + _SINCE_4
)

#: What makes a file of each version one of the next.
_STEPS = {
    1: """
ALTER TABLE ledger ADD COLUMN last_stamp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN window_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN new_addresses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN new_pairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flow ADD COLUMN sides TEXT NOT NULL DEFAULT 'src,dst';
ALTER TABLE flow ADD COLUMN peers BLOB;
ALTER TABLE flow ADD COLUMN ports BLOB;
ALTER TABLE flow ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;
UPDATE flow SET stamp = opened_us;
ALTER TABLE endpoint ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN pods TEXT NOT NULL DEFAULT '[]';
UPDATE endpoint SET pods = json_array(json_array(namespace, pod, uid, label)) WHERE uid IS NOT NULL;
ALTER TABLE endpoint DROP COLUMN namespace;
ALTER TABLE endpoint DROP COLUMN pod;
ALTER TABLE endpoint DROP COLUMN uid;
ALTER TABLE endpoint DROP COLUMN label;
"""
    + _SINCE_2,
    2: _SINCE_3,
    3: _SINCE_4,
}

#: The write-ahead log is folded back into the file at so many pages of 4 KiB. SQLite's own 1,000 would let a file
#: of some ten kilobytes carry four megabytes along, more than a small state directory may have.
_CHECKPOINT_PAGES = 100

#: A file system with fewer bytes left is full.
_FULL_BYTES = 64 * 1024


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
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript(SCHEMA)
        return cls(connection)

    def close(self) -> None:
        """Close the file and let another kiptail have the directory."""
        self.connection.close()
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None


def open_state(directory: Path, probe: Callable[[sqlite3.Connection], object]) -> StateFile:
    """The state file under ``directory``, which is created with mode 0700.

    ``probe`` reads what is in it: a file whose content is not what it should be is damaged too. A damaged file is
    set aside. Raises :class:`StoreUnavailableError` when the disk is full, :class:`StateError` when waiting will
    not help.
    """
    path = directory / "state.sqlite"
    with sqlite_errors(path), contextlib.ExitStack() as on_error:
        lock_fd = _lock(directory)
        on_error.callback(os.close, lock_fd)
        damaged = None
        try:
            connection = _connect(path, probe)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            damaged = _set_aside(path)
            log.error("the state file was damaged (%s); kept as %s, starting anew", error, damaged)
            connection = _connect(path, probe)
        on_error.pop_all()
    return StateFile(connection, lock_fd, damaged)


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
        if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
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


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A table or column that is missing comes as SQLITE_ERROR; all statements are ours and right.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


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


def _connect(path: Path, probe: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    """The state file, made or brought up to this version if need be; raises sqlite3.Error, OSError, StateError."""
    _refuse_newer(path, _version_on_disk(path))
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    try:
        # Ours alone, as the lock says: then no shared memory file is needed beside it.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        # WAL: a commit is one append, and a crash at any moment leaves the last one whole.
        # FULL: it is on the disk before anything of it is sent. NORMAL would do against the death of the process,
        # but after a power failure could forget a flow's name whose Event was sent already, while journald may
        # have kept the entries: they would be told a second time. It costs about half a millisecond a commit, and
        # there are a few commits a second. (That journald itself writes to the disk only every few minutes does no
        # harm: a position whose entry is gone is found again by its times.)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={8 * _CHECKPOINT_PAGES * 4096}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _refuse_newer(path, version)  # once more: what is in the write-ahead log counts
        if version == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise _damage("its pages do not fit together")
        for step in range(version, SCHEMA_VERSION) if version else ():
            connection.executescript(f"BEGIN; {_STEPS[step]} PRAGMA user_version={step + 1}; COMMIT;")
            log.info("the state file %s is of version %d now", path, step + 1)
        try:
            probe(connection)
        except (TypeError, ValueError) as error:
            raise _damage("what it holds is not what it should be") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _damage(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _version_on_disk(path: Path) -> int:
    """``PRAGMA user_version`` of the file as it is, without opening it as a database: that may write to it.

    Source: "Database File Format" of SQLite, section 1.3, "The Database Header": 4 bytes at offset 60.
    """
    try:
        with path.open("rb") as file:
            header = file.read(64)
    except FileNotFoundError:
        return 0
    return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0


def _refuse_newer(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the state file {path} has version {version}, this kiptail knows {SCHEMA_VERSION}:"
            " install the newer kiptail again, or move the file away to start anew"
        )


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(path.name + "-wal").rename(aside.with_name(aside.name + "-wal"))
    return path.rename(aside)
