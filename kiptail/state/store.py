"""The state of a node: position, flows and what has been delivered, in SQLite; one transaction a commit.

The journal's position, the flows and the Events' names are committed together and before anything is sent, so
that after a crash the entries behind the position are read again and the Events before it are sent again under
their stored names, with the same absolute counts. What was sent is noted a little later: a crash in between has it
sent once more. :mod:`kiptail.state.file` knows the file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kiptail.events.endpoint import Endpoint
from kiptail.events.event import EventRecord
from kiptail.flows.ledger import Changes
from kiptail.journal.position import Position
from kiptail.pods.ownership import Interval
from kiptail.state.file import StateFile, open_state, sqlite_errors
from kiptail.state.intervals import load_intervals, save_intervals
from kiptail.state.node_events import NodeEventRows, load_node_events
from kiptail.state.records import (
    Saved,
    endpoint_row,
    flow_row,
    ledger_row,
    load,
    position_row,
    record_row,
    window_row,
)
from kiptail.state.rows import Row
from kiptail.state.schema import BUDGET, ENDPOINT, EVENT, FLOW, LEDGER, POSITION

__all__ = ["Saved", "Store"]


class Store:
    """The state file; every method but :meth:`note` is one transaction, and each may be called from any thread.

    All raise :class:`~kiptail.errors.StoreUnavailableError` when the disk is full, and another
    :class:`~kiptail.errors.StateError` when trying again would not help.
    """

    def __init__(self, file: StateFile, path: Path = Path(":memory:"), found: Saved | None = None) -> None:
        """``found``: what was in the file when it was opened."""
        self._file, self._path, self._found = file, path, found
        self._mutex = threading.Lock()
        #: By the Events' keys. What is stored later must not be there without them.
        self._notes: dict[tuple[int, str, str], Row] = {}
        #: The Node's Events, likewise.
        self.node_events = NodeEventRows(self._transaction)

    @classmethod
    def in_memory(cls) -> Store:
        """A store that leaves nothing behind: what a dry run uses."""
        return cls(StateFile.in_memory())

    @classmethod
    def open(cls, directory: Path, machine_id: str = "") -> Store:
        """The state under ``directory``, which is created with mode 0700, if it is that of ``machine_id``."""
        file, found = open_state(directory, _read, machine_id=machine_id)
        return cls(file, directory / "state.sqlite", found)

    @property
    def damaged(self) -> Path | None:
        """Where the file that was found at the start was put, because it was damaged."""
        return self._file.damaged

    def close(self) -> None:
        """Close the file and let another kiptail have the directory."""
        with self._mutex:
            self._file.close()

    def load(self) -> Saved:
        """Everything that was committed."""
        with self._mutex, sqlite_errors(self._path):
            found, self._found = self._found, None
            return found or load(self._file.connection)

    def load_intervals(self) -> tuple[list[tuple[str, Interval]], int]:
        """What is known of this node's pods, by address; and when there was news of pods last, µs since the epoch."""
        with self._mutex, sqlite_errors(self._path):
            return load_intervals(self._file.connection)

    def save_intervals(self, changes: Mapping[str, Iterable[Interval]], *, news_us: int) -> None:
        """Replace what is known of the owners of these addresses."""
        with self._transaction() as connection:
            save_intervals(connection, changes, news_us=news_us)

    def commit(self, changes: Changes, position: Position | None) -> None:
        """Take over the ledger's changes together with the position that they were read up to."""
        budget = changes.budget
        with self._transaction() as connection:
            FLOW.save(connection, map(flow_row, changes.flows))
            LEDGER.save(connection, [ledger_row(changes)])
            connection.execute("DELETE FROM budget WHERE since_us < ?", (budget.over_us,))
            BUDGET.save(connection, map(window_row, budget.windows))
            if position is not None:
                POSITION.save(connection, [position_row(position)])

    def save_endpoints(self, flow_id: int, endpoints: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Who is at a flow's ends, and all its Events with their names and texts: in place of what was stored."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM endpoint WHERE flow_id=?", (flow_id,))
            connection.execute("DELETE FROM event WHERE flow_id=?", (flow_id,))
            ENDPOINT.save(connection, [endpoint_row(flow_id, end, endpoint) for end, endpoint in endpoints.items()])
            EVENT.save(connection, map(record_row, records))

    def note(self, record: EventRecord) -> None:
        """What became of a write to the API server: stored with the next transaction, whatever that is."""
        row = record_row(record)
        with self._mutex:
            self._notes[record.key] = row

    def write_notes(self) -> None:
        """Store the notes that no transaction has taken along yet."""
        if self._notes:
            with self._transaction():
                pass

    def forget(self, flow_ids: Iterable[int]) -> None:
        """Drop ended flows of which there is nothing left to tell."""
        ids = [(flow_id,) for flow_id in flow_ids]
        if ids:
            with self._transaction() as connection:
                connection.executemany("DELETE FROM flow WHERE id=? AND ended", ids)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, sqlite_errors(self._path):
            connection, self._found = self._file.connection, None
            try:
                connection.execute("BEGIN IMMEDIATE")
                if self._notes:
                    EVENT.replace(connection, self._notes.values())
                yield connection
                connection.execute("COMMIT")
                self._notes = {}
            except sqlite3.OperationalError:
                self._roll_back()
                # A full disk may hold a log that can be folded into the file: then the next try finds room.
                with suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raise
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # closed, or rolled back by SQLite itself
            if self._file.connection.in_transaction:
                self._file.connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection) -> Saved:
    """What is in a file that is opened."""
    load_intervals(connection)  # asked for later, as are the Node's Events, and only whether it can be
    load_node_events(connection)
    return load(connection)
