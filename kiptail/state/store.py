"""The state of a node: position, flows and what has been delivered, in SQLite; one transaction a commit.

The journal's position, the flows and the Events' names are committed together and before anything is sent, so
that after a crash the entries behind the position are read again and the Events before it are sent again under
their stored names, with the same absolute counts. What was sent is noted a little later: a crash in between has it
sent once more. :mod:`kiptail.state.file` knows the file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kiptail.clock.steady import Times
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.flows.budget import DIGEST, BudgetState, NodeWindow, Window
from kiptail.flows.flow import SIDES, Distinct, Flow, FlowKey, Spread
from kiptail.flows.ledger import Changes
from kiptail.flows.trail import Trail
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.pods.ownership import Interval, PodRef
from kiptail.state.file import StateFile, open_state, sqlite_errors
from kiptail.state.intervals import load_intervals, save_intervals
from kiptail.state.rows import Row
from kiptail.state.schema import BUDGET, ENDPOINT, EVENT, FLOW, LEDGER, POSITION

__all__ = ["Saved", "SavedFlow", "Store"]


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """A stored flow, who was found at its ends, and the pods' Events."""

    flow: Flow
    ends: dict[str, Endpoint]
    records: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a start resumes from."""

    position: Position | None
    watermark_us: int
    next_flow_id: int
    last_stamp: int
    budget: BudgetState
    flows: tuple[SavedFlow, ...]


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
            return found or _load(self._file.connection)

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
            FLOW.save(connection, map(_flow_row, changes.flows))
            LEDGER.save(connection, [(1, changes.watermark_us, changes.next_flow_id, changes.last_stamp, *budget.node)])
            connection.execute("DELETE FROM budget WHERE since_us < ?", (budget.over_us,))
            BUDGET.save(
                connection, [(w.address, w.side, w.since_us, b"".join(sorted(w.flows))) for w in budget.windows]
            )
            if position is not None:
                POSITION.save(connection, [_position_row(position)])

    def save_endpoints(self, flow_id: int, ends: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Who is at a flow's ends, and all its Events with their names and texts: in place of what was stored."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM endpoint WHERE flow_id=?", (flow_id,))
            connection.execute("DELETE FROM event WHERE flow_id=?", (flow_id,))
            ENDPOINT.save(
                connection,
                [(flow_id, side, end.kind, json.dumps(end.pods), end.name, end.probes) for side, end in ends.items()],
            )
            EVENT.save(connection, map(_record_row, records))

    def note(self, record: EventRecord) -> None:
        """What became of a write to the API server: stored with the next transaction, whatever that is."""
        row = _record_row(record)
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


def _record_row(record: EventRecord) -> Row:
    return (
        record.flow_id,
        record.end,
        record.pod.uid,
        json.dumps(record.pod),
        record.name,
        record.message,
        record.sent_count,
        record.sent_message,
        record.sent_at_us,
        record.writes,
        record.rounds,
        record.given_up,
        record.withdrawn,
    )


def _flow_row(flow: Flow) -> Row:
    spread = flow.spread
    return (
        flow.id,
        *flow.key,
        flow.opened_us,
        flow.first_us,
        flow.last_us,
        flow.seen_us,
        flow.count,
        flow.ended,
        ",".join(flow.sides),
        *((bytes(spread.peers), bytes(spread.ports)) if spread else (None, None)),
        flow.stamp,
        bytes(flow.trail),
        flow.mixed,
    )


def _position_row(position: Position) -> Row:
    clock = position.clock
    return (
        1,
        position.cursor,
        position.boot_id,
        position.monotonic_us,
        position.realtime_us,
        *((clock.boot_id, clock.monotonic_us, clock.offset_us) if clock else (None, None, None)),
        json.dumps(position.times) if position.times else None,
    )


def _read(connection: sqlite3.Connection) -> Saved:
    """What is in a file that is opened."""
    load_intervals(connection)  # asked for later, and only whether it can be
    return _load(connection)


def _load(connection: sqlite3.Connection) -> Saved:
    position = next(map(_position, POSITION.load(connection)), None)
    _id, watermark_us, next_id, last_stamp, *node = next(LEDGER.load(connection), (1, 0, 1, 0, *NodeWindow()))
    windows = tuple(map(_window, BUDGET.load(connection)))
    flows = {flow.id: flow for flow in map(_flow, FLOW.load(connection))}
    ends: dict[int, dict[str, Endpoint]] = {}
    for flow_id, side, *end in ENDPOINT.load(connection):
        ends.setdefault(flow_id, {})[side] = _endpoint(flows[flow_id].key.address(side), *end)
    records: dict[int, list[EventRecord]] = {}
    for record in map(_record, EVENT.load(connection)):
        records.setdefault(record.flow_id, []).append(record)
    saved = tuple(
        SavedFlow(flow, ends.get(flow_id, {}), tuple(records.get(flow_id, ())))
        for flow_id, flow in sorted(flows.items())
    )
    budget = BudgetState(windows, NodeWindow(*node))
    return Saved(position, watermark_us, max(next_id, max(flows, default=0) + 1), last_stamp, budget, saved)


def _endpoint(address: str, state: str, pods: str, name: str, probes: int) -> Endpoint:
    refs = tuple(map(_pod, json.loads(pods)))
    return Endpoint(Kind(state), address, refs, name, probes=bool(probes))


def _pod(ref: object) -> PodRef:
    """Of the namespace, name, UID and label; ValueError, TypeError when it is something else."""
    if not (isinstance(ref, list) and all(isinstance(part, str) for part in ref)):
        raise ValueError("no pod")
    return PodRef(*ref)


def _record(row: Row) -> EventRecord:
    flow_id, side, _uid, pod, name, message, sent_count, sent_message, sent_at_us, *more = row
    writes, rounds, given_up, withdrawn = more
    return EventRecord(
        flow_id,
        side,
        _pod(json.loads(pod)),
        name,
        message,
        sent_count,
        sent_message,
        sent_at_us,
        writes,
        rounds,
        given_up,
        bool(withdrawn),
    )


def _flow(row: Row) -> Flow:
    key = FlowKey(*row[1:11])
    opened_us, first_us, last_us, seen_us, count, ended, sides, peers, ports, stamp, trail, mixed = row[11:]
    return Flow(
        row[0],
        key._replace(reply=bool(key.reply)),
        opened_us,
        first_us,
        last_us,
        seen_us,
        count,
        bool(ended),
        tuple(side for side in SIDES if side in sides.split(",")),
        Spread(Distinct(peers), Distinct(ports)) if peers is not None else None,
        stamp,
        # Of a flow that an earlier version stored, nothing is told apart.
        Trail.restored(trail) if trail is not None else Trail(),
        bool(mixed),
    )


def _window(row: Row) -> Window:
    address, side, since_us, digests = row
    flows = {digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)}
    return Window(address, side, since_us, flows)


def _position(row: Row) -> Position:
    _id, cursor, boot_id, monotonic_us, realtime_us, *clock, times = row
    return Position(
        cursor,
        boot_id,
        monotonic_us,
        realtime_us,
        SourceClock(*clock) if clock[0] is not None else None,
        Times.restored(json.loads(times)) if times is not None else None,
    )
