"""The state of a node: position, flows and what has been delivered, in SQLite; one transaction a commit.

The journal's position, the flows and the Events' names are committed together and before anything is sent, so
that after a crash the entries behind the position are read again and the Events before it are sent again under
their stored names, with the same absolute counts. :mod:`kiptail.statefile` knows the file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiptail.budget import DIGEST, BudgetState, NodeWindow, Window
from kiptail.entry import Position, SourceClock
from kiptail.event import EventRecord
from kiptail.flow import SIDES, Distinct, Flow, FlowKey, Spread
from kiptail.intervals import load_intervals, save_intervals
from kiptail.ledger import Changes
from kiptail.locate import Endpoint, Kind
from kiptail.ownership import Interval, PodRef
from kiptail.statefile import StateFile, open_state, sqlite_errors
from kiptail.steady import Times
from kiptail.trail import Trail

__all__ = ["Saved", "SavedFlow", "Store"]

#: A row as SQLite gives it; its columns are typed by the schema.
Row = tuple[Any, ...]


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
    """The state file; every method is one transaction and may be called from any thread.

    All raise :class:`~kiptail.errors.StoreUnavailableError` when the disk is full, and another
    :class:`~kiptail.errors.StateError` when trying again would not help.
    """

    def __init__(self, file: StateFile, path: Path = Path(":memory:")) -> None:
        self._file, self._path = file, path
        self._mutex = threading.Lock()

    @classmethod
    def in_memory(cls) -> Store:
        """A store that leaves nothing behind: what a dry run uses."""
        return cls(StateFile.in_memory())

    @classmethod
    def open(cls, directory: Path) -> Store:
        """The state under ``directory``, which is created with mode 0700."""
        return cls(open_state(directory, _probe), directory / "state.sqlite")

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
            return _load(self._file.connection)

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
            connection.executemany(
                _SAVE_FLOW,
                map(_flow_row, changes.flows),
            )
            connection.execute(
                "REPLACE INTO ledger VALUES (1, ?, ?, ?, ?, ?, ?)",
                (changes.watermark_us, changes.next_flow_id, changes.last_stamp, *budget.node),
            )
            connection.execute("DELETE FROM budget WHERE since_us < ?", (budget.over_us,))
            connection.executemany(
                "REPLACE INTO budget VALUES (?, ?, ?, ?)",
                [(w.address, w.side, w.since_us, b"".join(sorted(w.flows))) for w in budget.windows],
            )
            if position is not None:
                clock = position.clock
                connection.execute(
                    "REPLACE INTO position VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        position.cursor,
                        position.boot_id,
                        position.monotonic_us,
                        position.realtime_us,
                        *((clock.boot_id, clock.monotonic_us, clock.offset_us) if clock else (None, None, None)),
                        json.dumps(position.times) if position.times else None,
                    ),
                )

    def save_endpoints(self, flow_id: int, ends: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Who is at a flow's ends, and all its Events with their names and texts: in place of what was stored."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM endpoint WHERE flow_id=?", (flow_id,))
            connection.execute("DELETE FROM event WHERE flow_id=?", (flow_id,))
            connection.executemany(
                "INSERT INTO endpoint (flow_id, side, state, name, pods, probes) VALUES (?, ?, ?, ?, ?, ?)",
                [(flow_id, side, end.kind, end.name, json.dumps(end.pods), end.probes) for side, end in ends.items()],
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
        with self._mutex, sqlite_errors(self._path):
            connection = self._file.connection
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
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


_FLOW_COLUMNS = (
    "id, src, dst, protocol, port, icmp_type, icmp_code, reply, prefix, verdict, here,"
    " opened_us, first_us, last_us, seen_us, count, ended, sides, peers, ports, stamp, trail, mixed"
)

_SAVE_FLOW = (
    f"INSERT INTO flow ({_FLOW_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant
    " ON CONFLICT (id) DO UPDATE SET opened_us=excluded.opened_us, first_us=excluded.first_us,"
    " last_us=excluded.last_us, seen_us=excluded.seen_us, count=excluded.count, ended=excluded.ended,"
    " sides=excluded.sides, peers=excluded.peers, ports=excluded.ports, trail=excluded.trail, mixed=excluded.mixed"
)

_SAVE_RECORD = "REPLACE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


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


def _probe(connection: sqlite3.Connection) -> None:
    _load(connection)
    load_intervals(connection)


def _load(connection: sqlite3.Connection) -> Saved:
    query = connection.execute
    position = next(map(_position, query("SELECT * FROM position")), None)
    ledger = query("SELECT watermark_us, next_flow_id, last_stamp, window_us, new_addresses, new_pairs FROM ledger")
    watermark_us, next_id, last_stamp, *node = next(ledger, (0, 1, 0))
    windows = map(_window, query("SELECT address, side, since_us, flows FROM budget"))
    ends: dict[int, dict[str, Endpoint]] = {}
    for flow_id, address, side, *end in query(
        "SELECT flow_id, CASE side WHEN 'src' THEN src ELSE dst END, side, state, pods, name, probes"
        " FROM endpoint JOIN flow ON flow.id = flow_id"
    ):
        ends.setdefault(flow_id, {})[side] = _endpoint(address, *end)
    records: dict[int, list[EventRecord]] = {}
    for row in query(
        "SELECT flow_id, side, pod, name, message, sent_count, sent_message, sent_at_us, writes, rounds, given_up,"
        " withdrawn FROM event"
    ):
        records.setdefault(row[0], []).append(_record(row))
    flows = tuple(
        SavedFlow(flow, ends.get(flow.id, {}), tuple(records.get(flow.id, ())))
        for flow in map(_flow, query(f"SELECT {_FLOW_COLUMNS} FROM flow ORDER BY id"))  # noqa: S608 - a constant
    )
    highest = max((saved.flow.id for saved in flows), default=0)
    budget = BudgetState(tuple(windows), NodeWindow(*node))
    return Saved(position, watermark_us, max(next_id, highest + 1), last_stamp, budget, flows)


def _endpoint(address: str, state: str, pods: str, name: str, probes: int) -> Endpoint:
    refs = tuple(PodRef(*ref) for ref in json.loads(pods))
    return Endpoint(Kind(state), address, refs, name, probes=bool(probes))


def _record(row: Row) -> EventRecord:
    flow_id, side, pod, name, message, sent_count, sent_message, sent_at_us, writes, rounds, given_up, withdrawn = row
    return EventRecord(
        flow_id,
        side,
        PodRef(*json.loads(pod)),
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
