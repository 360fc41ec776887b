"""Rows of the state file: what may be in a column, and checksums that tell rows that kiptail did not write.

Each row has a checksum of all its columns. The table ``seal`` has one row, the sum of all those, which triggers keep:
so a row that is missing tells as well, and one that an older page brought back. The triggers call a function that
only kiptail has: another program that writes to a table is refused. Accidents are found, then, and an editor's hand,
not whoever means to deceive.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

__all__ = ["SEAL", "Kind", "Row", "Table", "blob", "can_sum", "is_sealed", "one_of", "text", "whole"]

#: A row as SQLite gives it, or as it is given to SQLite.
Row = tuple[Any, ...]

#: The row with the sum of all rows' checksums.
SEAL = (
    "CREATE TABLE seal (id INTEGER PRIMARY KEY CHECK (id = 1), total INTEGER NOT NULL)",
    "INSERT INTO seal VALUES (1, 0)",
)

_ADD_UP = "UPDATE seal SET total = total"


class Kind(NamedTuple):
    """What a column holds: its type in SQL, and whether a value fits, which is asked of rows without a checksum."""

    sql: str
    fits: Callable[[Any], bool]

    def or_null(self) -> Kind:
        """This, or nothing."""
        return Kind(self.sql.removesuffix(" NOT NULL"), lambda value: value is None or self.fits(value))


def whole(least: int, most: int) -> Kind:
    """A whole number from ``least`` to ``most``."""
    return Kind("INTEGER NOT NULL", lambda value: type(value) is int and least <= value <= most)


def text(most: int) -> Kind:
    """At most so many characters."""
    return Kind("TEXT NOT NULL", lambda value: type(value) is str and len(value) <= most)


def blob(most: int, *, multiple_of: int = 1) -> Kind:
    """At most so many bytes."""
    return Kind(
        "BLOB NOT NULL", lambda value: type(value) is bytes and len(value) <= most and len(value) % multiple_of == 0
    )


def one_of(*values: str) -> Kind:
    """One of these texts."""
    return Kind("TEXT NOT NULL", lambda value: type(value) is str and value in values)


class Table:
    """A table whose rows have checksums. Rows are tuples of all ``columns`` in their order, without the checksum."""

    def __init__(self, name: str, columns: Mapping[str, Kind], *, key: tuple[str, ...], more: str = "") -> None:
        """``key``: the primary key's columns; ``more``: further constraints, in SQL."""
        self.name, self._columns = name, columns
        self._names = ", ".join(columns)
        declared = [f"{column} {kind.sql}" for column, kind in columns.items()]
        constraints = [f"PRIMARY KEY ({', '.join(key)})", *filter(None, [more])]
        body = ", ".join([*declared, "checksum INTEGER NOT NULL", *constraints])
        #: The statements that make it.
        self.create = (
            f"CREATE TABLE {name} ({body})" + (" WITHOUT ROWID" if len(key) > 1 else ""),
            *(
                f"CREATE TRIGGER {name}_{event.lower()} AFTER {event} ON {name} BEGIN {_ADD_UP} {change}; END"
                for event, change in (
                    ("INSERT", "+ by_kiptail_only(new.checksum)"),
                    ("UPDATE", "+ by_kiptail_only(new.checksum) - old.checksum"),
                    ("DELETE", "- by_kiptail_only(old.checksum)"),
                )
            ),
        )
        given = ", ".join(f"?{number}" for number in range(1, len(columns) + 1))
        # SQLite itself asks for the checksum: of what it was given, so of a number where Python has a bool.
        changes = ", ".join(f"{column}=excluded.{column}" for column in [*columns, "checksum"] if column not in key)
        self._save = f"INSERT INTO {name} VALUES ({given}, row_checksum({given}))"  # noqa: S608 - constants
        self._save += f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
        assigned = ", ".join(f"{column}=?{number}" for number, column in enumerate(columns, 1) if column not in key)
        same = " AND ".join(f"{column}=?{list(columns).index(column) + 1}" for column in key)
        self._replace = f"UPDATE {name} SET {assigned}, checksum=row_checksum({given}) WHERE {same}"  # noqa: S608

    def save(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Store rows, each in place of the one with its key."""
        connection.executemany(self._save, rows)

    def replace(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Store rows in place of those with their keys, where there are any."""
        connection.executemany(self._replace, rows)

    def load(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """All rows."""
        return connection.execute(f"SELECT {self._names} FROM {self.name}")  # noqa: S608 - constants

    def load_checked(self, connection: sqlite3.Connection) -> list[Row]:
        """All rows of a table that has no checksums yet. ValueError when a value does not fit."""
        rows = list(self.load(connection))
        for row in rows:
            for (column, kind), value in zip(self._columns.items(), row, strict=True):
                if not kind.fits(value):
                    raise ValueError(f"a value in {self.name}.{column} cannot be")
        return rows

    def sums(self, connection: sqlite3.Connection) -> Row:
        """How many rows are not what their checksums say, and the sum of the checksums.

        Whichever columns the file has: one of an earlier version may have fewer, or no such table.
        """
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({self.name})")]
        if not columns:
            return 0, 0
        quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in columns if column != "checksum")
        wrong = f"coalesce(sum(checksum IS NOT row_checksum({quoted})), 0)"
        return next(connection.execute(f"SELECT {wrong}, coalesce(sum(checksum), 0) FROM {self.name}"))  # noqa: S608


def can_sum(connection: sqlite3.Connection) -> None:
    """Let the connection compute checksums; whatever is done with a :class:`Table` needs it."""
    connection.create_function("row_checksum", -1, _checksum, deterministic=True)
    connection.create_function("by_kiptail_only", 1, lambda checksum: checksum, deterministic=True)


def is_sealed(connection: sqlite3.Connection, tables: Iterable[Table]) -> bool:
    """Whether all rows of these tables, and no others, are what kiptail has written."""
    sums = [table.sums(connection) for table in tables]
    (total,) = next(connection.execute("SELECT total FROM seal"), (None,))
    return not any(wrong for wrong, _ in sums) and total == sum(checksum for _, checksum in sums)


def _checksum(*row: object) -> int:
    # ascii() writes numbers, texts, bytes and None so that they differ, and the same in all versions of Python; repr()
    # would hang on its Unicode tables. (marshal is faster, and its format may change.)
    return crc32(ascii(row).encode())
