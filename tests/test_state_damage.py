"""Damaged state files: read on with all that was in them, or set aside with a word, and nothing else.

What counts as "all" is what some commit left; a write-ahead log that is broken off ends with an earlier one.
"""
# ruff: noqa: S608 - made-up SQL is what this is about

from __future__ import annotations

import logging
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from kiptail.errors import StateError
from kiptail.events.event import EventStyle, event_body
from kiptail.flows.ledger import Ledger
from kiptail.state.schema import SCHEMA_VERSION, TABLES
from kiptail.state.store import Store
from tests.support.fuzzing import cases, source
from tests.support.statefiles import NOTHING, T0, Content, Written, content_of, edit, write_states

STYLE = EventStyle("PacketDrop", "kiptail", "node1", "name_with_namespace")
PAGE = 4096


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_states(tmp_path_factory.mktemp("state") / "state")


class Place:
    """A state directory, and what opening it says."""

    def __init__(self, directory: Path, log: pytest.LogCaptureFixture) -> None:
        self.directory, self._log = directory, log
        self.path = directory / "state.sqlite"
        self._opened = 0

    def put(self, data: bytes, wal: bytes | None = None) -> None:
        for old in self.directory.glob("state.sqlite*"):
            if old.is_dir():
                old.rmdir()
            else:
                old.unlink()
        self.path.write_bytes(data)
        if wal is not None:
            self.path.with_name("state.sqlite-wal").write_bytes(wal)

    def opened(self) -> Content:
        """What a start finds, after it has been seen that a set aside file is told, and that the next start works."""
        self._log.clear()
        with closing(Store.open(self.directory)) as store:
            content, damaged = content_of(store), store.damaged
            aside = list(self.directory.glob("state.sqlite.damaged-*"))
            told = [record.getMessage() for record in self._log.records if record.levelno >= logging.WARNING]
            assert bool(aside) == (damaged is not None) == bool(told), (aside, told)
            if damaged is not None:
                assert content == NOTHING
                (line,) = told
                assert line.startswith("the state file was damaged (")
                assert str(damaged) in line
                assert line.isprintable()
            go_on(store)
        self._opened += 1
        if self._opened % 4 == 0:
            with closing(Store.open(self.directory)) as store:
                assert store.damaged is None, "what was begun anew, or written to, is whole"
        return content


def go_on(store: Store) -> None:
    """What a start does with the state: count on, write it, and make Events of what it holds."""
    saved = store.load()
    ledger = Ledger(
        [s.flow for s in saved.flows],
        next_id=saved.next_flow_id,
        watermark_us=saved.watermark_us,
        last_stamp=saved.last_stamp,
        budget=saved.budget,
    )
    for s in saved.flows:
        for record in s.records:
            event_body(record, s.flow, STYLE, None)
        ledger.add(s.flow.key, T0 + 3_600_000_000)
    store.commit(ledger.changes(), saved.position)


@pytest.fixture
def place(quick_path: Path, caplog: pytest.LogCaptureFixture) -> Place:
    return Place(quick_path, caplog)


# -- instances ------------------------------------------------------------------------------------------------

#: What a value can be that is not the one that was written.
VALUES: list[object] = [
    None, 0, 1, -1, 2, 0.5, 10**12, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 253_402_300_800_000_000, "", "x", "src",
    "10.0.0.1", "[]", "[" * 5_000, '[["a"]]', "null", "\x00", b"", b"\xff\xfe", b"\0" * 8, b"x" * 100_000, "y" * 9_999,
]  # fmt: skip
#: … and as SQL, for what Python cannot give: text that is no UTF-8, a blob that is too long for anything.
LITERALS = ["CAST(x'ff' AS TEXT)", "CAST(x'c328' AS TEXT)", "zeroblob(8000000)", "CAST(zeroblob(9) AS TEXT)", "9e999"]

STATEMENTS = [
    "DROP TABLE endpoint",
    "DROP TABLE position",
    "ALTER TABLE flow RENAME TO flows",
    "ALTER TABLE flow ADD COLUMN more INTEGER",
    "ALTER TABLE flow ADD COLUMN more TEXT NOT NULL DEFAULT x'ff'",
    "ALTER TABLE flow DROP COLUMN mixed",
    "ALTER TABLE flow RENAME COLUMN first_us TO last",
    "CREATE TABLE more (id INTEGER PRIMARY KEY)",
    "CREATE INDEX by_src ON flow (src)",
    "CREATE UNIQUE INDEX one_port ON flow (verdict, id)",
    "CREATE VIEW more AS SELECT * FROM flow",
    "CREATE TRIGGER never BEFORE INSERT ON flow BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER double AFTER UPDATE ON flow BEGIN UPDATE flow SET count = count + 1 WHERE id = new.id; END",
    "DELETE FROM seal",
    "UPDATE seal SET total = total + 1",
    "UPDATE seal SET total = 'x'",
    "DELETE FROM flow WHERE id = 3",
    "DELETE FROM position",
    "DELETE FROM ledger",
    "DELETE FROM interval WHERE key = 'uid-8'",
    "INSERT INTO pod_news SELECT id + 1, at_us, checksum FROM pod_news",
    "UPDATE flow SET id = 1000 WHERE id = 3",
    "UPDATE flow SET count = 1 WHERE id = 3",
    "UPDATE flow SET port = port + 0.5 WHERE id = 3",
    "UPDATE flow SET checksum = 0",
    "UPDATE endpoint SET flow_id = 1000 WHERE flow_id = 3",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = -1",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = 1073741828",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_state_that_somebody_changed_is_set_aside(place: Place, written: Written, statement: str) -> None:
    place.put(written.stopped[-1])
    edit(place.path, statement)
    assert place.path.read_bytes() != written.stopped[-1]
    assert place.opened() == NOTHING


VIEW = ("CREATE TABLE other AS SELECT * FROM flow", "DROP TABLE flow", "CREATE VIEW flow AS SELECT * FROM other")


def test_a_schema_that_is_no_text_is_set_aside(place: Place, written: Written) -> None:
    """SQLite quotes it in its error, and Python's sqlite3 fails to read that."""
    data = written.stopped[-1].replace(b"AFTER DELETE ON position BEGIN", b"AFTER DELETE ON posit\xffon BEGIN")
    assert data != written.stopped[-1]
    place.put(data)
    assert place.opened() == NOTHING


def test_a_view_is_no_table(place: Place, written: Written) -> None:
    place.put(written.stopped[-1])
    edit(place.path, "PRAGMA foreign_keys=OFF", *VIEW)
    assert place.opened() == NOTHING


@pytest.mark.parametrize("table", [table for table in TABLES if table.name != "machine"], ids=lambda table: table.name)
def test_any_other_value_in_any_column_is_noticed(place: Place, written: Written, table: object) -> None:
    """One column and value after the other in turns: each column gets some, each value turns up in each table."""
    name = table.name  # type: ignore[attr-defined]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(written.stopped[-1].replace(b"\2\2", b"\1\1", 1))  # not with a write-ahead log
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
    for turn in range(max(len(columns), 9)):
        column = columns[turn % len(columns)]
        place.put(written.stopped[-1])
        before = _rows(place.path, name)
        if turn % 3 == 2:
            one = f"WHERE {columns[0]} = (SELECT max({columns[0]}) FROM {name})"
            edit(place.path, f"UPDATE OR IGNORE {name} SET {column} = {LITERALS[turn // 3 % len(LITERALS)]} {one}")
        else:
            edit(place.path, f"UPDATE OR IGNORE {name} SET {column} = ?", values=[VALUES[turn * 5 % len(VALUES)]])
        changed = _rows(place.path, name) != before
        assert place.opened() == (NOTHING if changed else written.contents[-1]), (column, turn)


def _rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return connection.execute(f"SELECT * FROM {table}").fetchall()


HARMLESS = ["ANALYZE", "VACUUM", "PRAGMA page_size = 1024; VACUUM", "PRAGMA application_id = 7",
            "PRAGMA auto_vacuum = 1; VACUUM", "REINDEX"]  # fmt: skip


@pytest.mark.parametrize("script", HARMLESS)
@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_a_file_that_sqlite_wrote_otherwise_is_read_on(place: Place, written: Written, script: str, mode: str) -> None:
    place.put(written.stopped[-1])
    with closing(sqlite3.connect(place.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=delete")
        for statement in script.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA journal_mode={mode}")
    assert place.opened() == written.contents[-1]


def test_another_program_is_kept_from_writing(place: Place, written: Written) -> None:
    place.put(written.stopped[-1])
    with closing(sqlite3.connect(place.path)) as connection:
        for table in TABLES:
            # Those that have a row in this state.
            for statement in ("DELETE FROM {0}", "UPDATE {0} SET checksum = 1") if table.name != "machine" else ():
                with pytest.raises(sqlite3.OperationalError, match="by_kiptail_only"):
                    connection.execute(statement.format(table.name))
    assert place.opened() == written.contents[-1]


#: Offsets in the database header: the format's versions, page size, reserved space, encoding, schema format, …
HEADER = [0, 16, 17, 18, 19, 20, 21, 22, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 60, 63, 67, 71, 91, 95, 96, 99]


@pytest.mark.parametrize("value", [0, 3, 0x7F, 0xFF])
def test_any_byte_of_the_header_can_be_wrong(place: Place, written: Written, value: int) -> None:
    for at in HEADER:
        data = bytearray(written.stopped[-1])
        data[at] = value
        place.put(bytes(data))
        if at == 63 and value > SCHEMA_VERSION:
            with pytest.raises(StateError, match=rf"version {value}, this kiptail knows {SCHEMA_VERSION}"):
                place.opened()
        else:
            assert place.opened() in (NOTHING, written.contents[-1]), at


def no_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def log_left(path: Path) -> None:
    path.with_name("state.sqlite-wal").write_bytes(path.read_bytes())
    path.unlink()


def log_is_a_directory(path: Path) -> None:
    path.with_name("state.sqlite-wal").mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("become", [no_file, fifo, log_left, log_is_a_directory, empty, short, loop])
def test_what_is_no_database_file_is_set_aside(place: Place, written: Written, become: Callable[[Path], None]) -> None:
    place.put(written.stopped[-1])
    become(place.path)
    assert place.opened() == NOTHING


def test_rubbish_beside_the_file_does_no_harm(place: Place, written: Written) -> None:
    for name in ("-wal", "-journal", "-shm", ".new"):
        for rubbish in (b"", b"x", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 600, written.stopped[0]):
            place.put(written.stopped[-1])
            place.path.with_name(f"state.sqlite{name}").write_bytes(rubbish)
            assert place.opened() == written.contents[-1], name


def test_files_that_were_set_aside_do_not_pile_up(place: Place) -> None:
    for number in range(9):
        place.path.write_bytes(b"damage %d" % number)
        Store.open(place.directory).close()
    aside = sorted(place.directory.glob("state.sqlite.damaged-*"))
    assert {file.read_bytes() for file in aside} == {b"damage %d" % number for number in range(4, 9)}


# -- made up --------------------------------------------------------------------------------------------------


def some_rows(choose: random.Random, path: Path) -> None:
    """Another value here and there, rows that go or come twice."""
    table = choose.choice(TABLES).name
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    column, which = choose.choice(columns), f"LIMIT 1 OFFSET {choose.randrange(max(1, count))}"
    where = f"WHERE ({columns[0]}, {columns[1]}) = (SELECT {columns[0]}, {columns[1]} FROM {table} {which})"
    match choose.randrange(5):
        case 0:
            edit(path, f"DELETE FROM {table} {where}")
        case 1:
            edit(path, f"UPDATE {table} SET {column} = {choose.choice(LITERALS)} {where}")
        case 2:
            other = choose.choice(columns)
            edit(path, f"UPDATE {table} SET {column} = {other} {where}")
        case 3:
            kind = choose.choice(["TEXT", "REAL", "BLOB"])
            edit(path, f"UPDATE {table} SET {column} = CAST({column} AS {kind}) {where}")
        case _:
            edit(path, f"UPDATE {table} SET {column} = ? {where}", values=[choose.choice(VALUES)])


WORDS = [
    ("NOT NULL", ""),
    ("INTEGER", "TEXT"),
    ("CASCADE", "RESTRICT"),
    ("total +", "total -"),
    ("id", "ID"),
    ("(", "(  "),
    ("TABLE", "TABLE IF NOT EXISTS"),
    ("checksum", "check_sum"),
]


def the_schema(choose: random.Random, path: Path) -> None:
    """One of the statements, or a word of the schema's text changed."""
    if choose.random() < 0.5:
        edit(path, choose.choice(STATEMENTS))
        return
    old, new = choose.choice(WORDS)
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.Error), connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?)", (old, new))


def some_bytes(choose: random.Random, path: Path) -> None:
    """Bits, bytes and stretches of the file or its log."""
    file = _one_of(choose, path)
    data = bytearray(file.read_bytes() or b"\0")
    for _ in range(choose.randint(1, 4)):
        at = choose.choice([choose.randrange(min(100, len(data))), *(choose.randrange(len(data)) for _ in range(2))])
        match choose.randrange(3):
            case 0:
                data[at] ^= 1 << choose.randrange(8)
            case 1:
                data[at] = choose.choice((0, 0xFF, choose.randrange(256)))
            case _:
                length = choose.choice((2, 16, 512, PAGE))
                data[at : at + length] = choose.choice((b"\0" * length, b"\xff" * length, choose.randbytes(length)))
    file.write_bytes(data)


def some_pages(choose: random.Random, path: Path, older: bytes) -> None:
    """Pages that change places, come twice, or are as they were once."""
    data = bytearray(path.read_bytes())
    pages = len(data) // PAGE or 1
    for _ in range(choose.randint(1, 2)):
        one, other = (choose.randrange(pages) * PAGE for _ in range(2))
        match choose.randrange(3):
            case 0:
                first, second = data[one : one + PAGE], data[other : other + PAGE]
                data[one : one + PAGE], data[other : other + PAGE] = second, first
            case 1:
                data[one : one + PAGE] = data[other : other + PAGE]
            case _:
                data[one : one + PAGE] = older[one : one + PAGE].ljust(PAGE, b"\0")
    path.write_bytes(data)


def the_length(choose: random.Random, path: Path, other: bytes) -> None:
    """A file or a log that is broken off, or goes on with something else."""
    file = _one_of(choose, path)
    data = file.read_bytes()
    if choose.random() < 0.3:
        more = choose.choice([b"\0" * 5_000, choose.randbytes(10_000), other])
        file.write_bytes(data + more)
        return
    at = choose.choice([choose.randrange(len(data) + 1), choose.randrange(len(data) // PAGE + 1) * PAGE])
    file.write_bytes(data[:at])


def _one_of(choose: random.Random, path: Path) -> Path:
    logs = [file for file in (path.with_name("state.sqlite-wal"),) if file.exists() and file.stat().st_size]
    return choose.choice([path, *logs])


def damage(choose: random.Random, path: Path, written: Written) -> None:
    match choose.randrange(5):
        case 0:
            some_rows(choose, path)
        case 1:
            the_schema(choose, path)
        case 2:
            some_pages(choose, path, written.stopped[0])
        case 3:
            the_length(choose, path, written.stopped[0])
        case _:
            some_bytes(choose, path)


@pytest.mark.fuzz
def test_damaged_files_are_read_on_in_full_or_set_aside(place: Place, written: Written) -> None:
    choose, seed = source("state files")
    outcomes = {"read on": 0, "earlier": 0, "set aside": 0, "newer": 0}
    for case in range(cases(80)):
        log = choose.random() < 0.4
        late = choose.random() < 0.5
        expected = written.contents[-1 if late else written.half]
        data, wal = written.killed[late] if log else (written.stopped[late], None)
        place.put(data, wal)
        try:
            for _ in range(choose.choice((1, 1, 2))):
                # SQLite itself cannot write to it any more, and Python not read why.
                with suppress(sqlite3.Error, UnicodeDecodeError):
                    damage(choose, place.path, written)
            found = place.opened()
        except Exception as error:
            if not (isinstance(error, StateError) and f"this kiptail knows {SCHEMA_VERSION}" in str(error)):
                raise AssertionError(f"{seed}, case {case}: {error!r}") from error
            outcomes["newer"] += 1
        else:
            # An older log ends somewhere: what any commit left is a state that kiptail was in.
            assert found in (expected, NOTHING) or (log and found in written.contents), f"{seed}, case {case}"
            kind = "read on" if found == expected else "set aside" if found == NOTHING else "earlier"
            outcomes[kind] += 1
    assert outcomes["set aside"] > cases(80) / 4, outcomes
    assert outcomes["read on"] > 0, outcomes
