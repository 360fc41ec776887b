"""The state of a node: position, flows and what has been delivered, in SQLite; one transaction a commit.

The journal's position, the flows and the Events' names are committed together and before anything is sent, so
that after a crash the entries behind the position are read again and the Events before it are sent again under
their stored names, with the same absolute counts.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiptail.entry import Position, SourceClock
from kiptail.errors import StateError
from kiptail.event import EventRecord
from kiptail.ledger import Changes, Flow, FlowKey
from kiptail.ownership import PodRef

__all__ = ["Saved", "SavedFlow", "Store", "StoreUnavailableError"]

log = logging.getLogger(__name__)

#: ``PRAGMA user_version`` of the schema below.
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cursor TEXT NOT NULL, boot_id TEXT NOT NULL, monotonic_us INTEGER NOT NULL, realtime_us INTEGER NOT NULL,
    clock_boot_id TEXT, clock_monotonic_us INTEGER, clock_offset_us INTEGER
);
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1), watermark_us INTEGER NOT NULL, next_flow_id INTEGER NOT NULL
);
CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    src TEXT NOT NULL, dst TEXT NOT NULL, protocol TEXT NOT NULL, port INTEGER,
    icmp_type INTEGER, icmp_code INTEGER, reply INTEGER NOT NULL,
    prefix TEXT NOT NULL, verdict TEXT NOT NULL,
    opened_us INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, seen_us INTEGER NOT NULL,
    count INTEGER NOT NULL, ended INTEGER NOT NULL
);
-- One end of a flow, once it is decided who was there. Only a pod's end has an Event.
CREATE TABLE endpoint (
    flow_id INTEGER NOT NULL REFERENCES flow (id) ON DELETE CASCADE, side TEXT NOT NULL,
    state TEXT NOT NULL,
    namespace TEXT, pod TEXT, uid TEXT, label TEXT,
    event_name TEXT, message TEXT,
    sent_count INTEGER, sent_message TEXT, sent_at_us INTEGER, writes INTEGER, rounds INTEGER, given_up TEXT,
    PRIMARY KEY (flow_id, side)
) WITHOUT ROWID;
"""


class StoreUnavailableError(StateError):
    """The state cannot be written just now (disk full, read-only); nothing was committed, a later try can work."""


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """A stored flow with what was decided of its ends: ``states`` by side, and the pods' Events."""

    flow: Flow
    states: dict[str, str]
    records: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a start resumes from."""

    position: Position | None
    watermark_us: int
    next_flow_id: int
    flows: tuple[SavedFlow, ...]


class Store:
    """The state file; every method is one transaction and may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, lock_fd: int | None = None) -> None:
        self._connection = connection
        self._lock_fd = lock_fd
        self._mutex = threading.Lock()

    @classmethod
    def in_memory(cls) -> Store:
        """A store that leaves nothing behind: what a dry run uses."""
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript(_SCHEMA)
        return cls(connection)

    @classmethod
    def open(cls, directory: Path) -> Store:
        """The state under ``directory``, which is created with mode 0700; raises :class:`StateError`."""
        lock_fd = _lock(directory)
        path = directory / "state.sqlite"
        try:
            return cls(_connect_or_set_aside(path), lock_fd)
        except (sqlite3.Error, OSError) as error:
            os.close(lock_fd)
            raise StateError(f"cannot use the state file {path}: {error}") from error
        except StateError:
            os.close(lock_fd)
            raise

    def close(self) -> None:
        """Close the file and let another kiptail have the directory."""
        with self._mutex:
            self._connection.close()
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    def load(self) -> Saved:
        """Everything that was committed."""
        with self._mutex:
            query = self._connection.execute
            position = next(map(_position, query("SELECT * FROM position")), None)
            watermark_us, next_id = next(query("SELECT watermark_us, next_flow_id FROM ledger"), (0, None))[:2]
            ends: dict[int, list[tuple[object, ...]]] = {}
            for row in query("SELECT * FROM endpoint"):
                ends.setdefault(row[0], []).append(row)
            flows = tuple(
                SavedFlow(flow, {str(r[1]): str(r[2]) for r in rows}, tuple(_records(rows)))
                for flow in map(_flow, query("SELECT * FROM flow ORDER BY id"))
                for rows in (ends.get(flow.id, []),)
            )
        highest = max((saved.flow.id for saved in flows), default=0)
        return Saved(position, watermark_us, max(next_id or 1, highest + 1), flows)

    def commit(self, changes: Changes, position: Position | None) -> None:
        """Take over the ledger's changes together with the position that they were read up to."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO flow VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
                " first_us=excluded.first_us, last_us=excluded.last_us,"
                " seen_us=excluded.seen_us, count=excluded.count, ended=excluded.ended",
                [
                    (f.id, *f.key, f.opened_us, f.first_us, f.last_us, f.seen_us, f.count, f.ended)
                    for f in changes.flows
                ],
            )
            connection.execute("REPLACE INTO ledger VALUES (1, ?, ?)", (changes.watermark_us, changes.next_flow_id))
            if position is not None:
                clock = position.clock
                connection.execute(
                    "REPLACE INTO position VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        position.cursor,
                        position.boot_id,
                        position.monotonic_us,
                        position.realtime_us,
                        *((clock.boot_id, clock.monotonic_us, clock.offset_us) if clock else (None, None, None)),
                    ),
                )

    def save_endpoints(self, flow_id: int, states: dict[str, str], records: Iterable[EventRecord]) -> None:
        """Who is at a flow's ends, decided once, and the Events with their names and texts."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO endpoint (flow_id, side, state) VALUES (?, ?, ?)"
                " ON CONFLICT (flow_id, side) DO UPDATE SET state=excluded.state",
                [(flow_id, side, state) for side, state in states.items()],
            )
            connection.executemany(_SAVE_RECORD, map(_record_row, records))

    def save_record(self, record: EventRecord) -> None:
        """What became of a write to the API server."""
        with self._transaction() as connection:
            connection.execute(_SAVE_RECORD, _record_row(record))

    def forget(self, flow_ids: Iterable[int]) -> None:
        """Drop ended flows of which there is nothing left to tell."""
        ids = [(flow_id,) for flow_id in flow_ids]
        if ids:
            with self._transaction() as connection:
                connection.executemany("DELETE FROM flow WHERE id=? AND ended", ids)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreUnavailableError(f"the state cannot be written: {error}") from error


_SAVE_RECORD = (
    "UPDATE endpoint SET namespace=?, pod=?, uid=?, label=?, event_name=?, message=?, sent_count=?, sent_message=?,"
    " sent_at_us=?, writes=?, rounds=?, given_up=? WHERE flow_id=? AND side=?"
)


def _record_row(record: EventRecord) -> tuple[object, ...]:
    return (
        *record.pod,
        record.name,
        record.message,
        record.sent_count,
        record.sent_message,
        record.sent_at_us,
        record.writes,
        record.rounds,
        record.given_up,
        record.flow_id,
        record.end,
    )


def _records(rows: Iterable[tuple[object, ...]]) -> Iterator[EventRecord]:
    for flow_id, side, _state, namespace, pod, uid, label, name, *rest in rows:
        if name is not None:
            ref = PodRef(namespace, pod, uid, label)  # type: ignore[arg-type]  # columns are typed by the schema
            yield EventRecord(flow_id, side, ref, name, *rest)  # type: ignore[arg-type]  # same


def _flow(row: tuple[object, ...]) -> Flow:
    key = FlowKey(*row[1:10])  # type: ignore[arg-type]  # columns are typed by the schema
    flow = Flow(row[0], key._replace(reply=bool(key.reply)), *row[10:])  # type: ignore[arg-type]  # same
    flow.ended = bool(flow.ended)
    return flow


def _position(row: tuple[object, ...]) -> Position:
    _id, cursor, boot_id, monotonic_us, realtime_us, *clock = row
    source_clock = SourceClock(*clock) if clock[0] is not None else None  # type: ignore[arg-type]  # same
    return Position(cursor, boot_id, monotonic_us, realtime_us, source_clock)  # type: ignore[arg-type]  # same


def _lock(directory: Path) -> int:
    """Create the directory and take its lock, which the kernel gives back when the process ends."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
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


def _connect(path: Path) -> sqlite3.Connection:
    """The state file, made if need be; raises sqlite3.DatabaseError, or StateError for one of a newer version."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateError(f"cannot use the state file {path}: {error.strerror}") from error
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StateError(
                f"the state file {path} has version {version}, this kiptail knows {SCHEMA_VERSION}:"
                " install the newer kiptail again, or move the file away to start anew"
            )
        # WAL: readers and the two writing threads do not wait for each other's fsync of the main file. FULL: a
        # power failure must not undo the commit of an Event's name after the Event was sent (0.6 ms a commit).
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("database disk image is malformed")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_or_set_aside(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        aside = _set_aside(path)
        log.error("the state file was damaged (%s); kept as %s, starting anew", error, aside)
        return _connect(path)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return "malformed" in str(error) or "not a database" in str(error) or "already exists" in str(error)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path.rename(aside)
