"""State files for tests: what a busy kiptail leaves behind, and what can become of it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.flows.budget import Limits
from kiptail.flows.flow import FlowKey
from kiptail.flows.ledger import Ledger
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.pods.ownership import Interval, PodRef
from kiptail.state.store import Store

__all__ = ["NOTHING", "Content", "Written", "content_of", "edit", "write_states"]

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND

#: What a store says of itself, and of pods.
Content = tuple[Any, Any]


def content_of(store: Store) -> Content:
    """All that can be asked of it."""
    return store.load(), store.load_intervals()


with closing(Store.in_memory()) as _empty:
    #: The content of a state that has just begun.
    NOTHING = content_of(_empty)


@dataclass
class Written:
    """State files of one history, in its order, and what was committed when."""

    #: The file of a kiptail that was stopped, early and late in the history.
    stopped: list[bytes] = field(default_factory=list)
    #: File and write-ahead log of one that was killed.
    killed: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: After each commit.
    contents: list[Content] = field(default_factory=list)
    #: Which of them the early files hold.
    half: int = 0


def write_states(directory: Path, flows: int = 40) -> Written:
    """A history of commits: flows that are named and told, budgets, pods, on some dozen pages."""
    written = Written()
    path, copy = directory / "state.sqlite", directory / "copy"
    ledger = Ledger(limits=Limits(flows_per_address=4))
    store = Store.open(directory)

    def note() -> None:
        written.contents.append(content_of(store))

    note()
    for number in range(flows):
        pod = PodRef(f"team-{number % 3}", f"web-{number}", f"uid-{number}", "label")
        key = FlowKey(f"10.0.{number // 9}.1", f"10.1.0.{number}", "TCP", 80 + number, None, None, False, "p:", "drop")
        ledger.add(key, T0 + number * SECOND)
        flow = ledger.add(key, T0 + number * SECOND + 5)
        position = Position(f"s=1;i={number}", "b" * 32, number, T0 + number, SourceClock("b" * 32, 5, -6))
        store.commit(ledger.changes(), position)
        ledger.committed()
        note()
        if flow is not None:
            endpoints = {
                "src": Endpoint(Kind.POD, key.src, (pod,)),
                "dst": Endpoint(Kind.NOBODY, key.dst, name="db.example"),
            }
            record = EventRecord(flow.id, "src", pod, f"web-{number}.1", "text " * 20)
            store.save_endpoints(flow.id, endpoints, [record])
            note()
            record.sent_count, record.sent_message, record.sent_at_us = 2, record.message, T0 + number * SECOND
            store.note(record)
            store.write_notes()
            note()
        interval = Interval(pod.uid, pod, T0, T0 + SECOND, None, None, local=True)
        store.save_intervals({key.src: [interval]}, news_us=T0 + number * SECOND)
        note()
        if number in (flows // 2, flows - 1):
            written.half = written.half or len(written.contents) - 1
            written.killed.append((path.read_bytes(), path.with_name("state.sqlite-wal").read_bytes()))
            # As on a stop, which folds the log into the file.
            with closing(sqlite3.connect(copy)) as target:
                store._file.connection.backup(target)
            written.stopped.append(copy.read_bytes())
    store.close()
    shutil.rmtree(directory)
    return written


def edit(path: Path, *statements: str, values: Sequence[object] = ()) -> None:
    """Change the rows of a state file as damage does: no trigger notices it. What SQLite refuses is left out."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = bytes
        connection.execute("PRAGMA synchronous=OFF")
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type='trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name.decode()}"')
        for statement in statements:
            with suppress(sqlite3.Error):
                connection.execute(statement, values)
        for _, sql in triggers:
            with suppress(sqlite3.Error):
                connection.execute(sql.decode())
