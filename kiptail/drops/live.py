"""What ``kubectl drops -w`` shows: a table that is drawn anew on a terminal, and a line for each change elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NoReturn

from kiptail.drops.changes import Change, Rows
from kiptail.drops.follow import Failed, Follower, Listed, Remark, Update
from kiptail.drops.row import Key, Row
from kiptail.drops.table import Columns, Style, as_item, as_names, in_order
from kiptail.drops.wanted import Wanted
from kiptail.text import one_line

__all__ = ["Appended", "Drawn", "follow"]

#: How often ages are drawn anew, in seconds.
_TICK_S = 1.0
#: No more updates are taken in before they are shown.
_AT_ONCE = 1_000
_CLEAR, _HOME, _TO_END_OF_LINE, _TO_END = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


class Drawn:
    """The newest rows that the terminal has room for, from its first line on, and below them what there is to say."""

    def __init__(self, style: Style, sort: str, wanted: Wanted, write: Callable[[str], None]) -> None:
        self._style, self._sort, self._wanted, self._write = style, sort, wanted, write
        self._remark = ""

    def begin(self) -> None:
        """An empty screen."""
        self._write(_CLEAR)

    def remark(self, text: str) -> None:
        """Say this until there is something else to say."""
        self._remark = text

    def show(self, rows: Rows, changed: Iterable[Row]) -> None:
        """Draw all that is wanted by now."""
        del changed
        now, size = time.time(), shutil.get_terminal_size()
        columns = Columns(replace(self._style, width=size.columns))
        wanted = in_order((row for row in rows if self._wanted.accepts(row, now)), self._sort)
        # The last line is the cursor's.
        room = max(1, size.lines - 1 - self._style.headings - bool(self._remark))
        lines = columns.table(wanted[-room:], now) if wanted else [f"No drops found in {self._wanted.where}."]
        if self._remark:
            lines.append(one_line(self._remark, size.columns))
        self._write(_HOME + "".join(f"{line}{_TO_END_OF_LINE}\n" for line in lines) + _TO_END)


class Appended:
    """A line for each row that is new or has changed."""

    def __init__(
        self,
        style: Style,
        sort: str,
        wanted: Wanted,
        write: Callable[[str], None],
        *,
        say: Callable[[str], None],
        form: str,
    ) -> None:
        """``form`` is one of ``table``, ``wide``, ``json`` and ``name``; ``say`` gets remarks."""
        self.remark = say
        self._columns = Columns(replace(style, times=True))
        self._headings = style.headings and form in ("table", "wide")
        self._sort, self._wanted, self._write, self._form = sort, wanted, write, form
        self._named: set[str] = set()

    def begin(self) -> None:
        """Nothing is written before there is a row."""

    def show(self, rows: Rows, changed: Iterable[Row]) -> None:
        """Write a line for each row of ``changed`` that is wanted."""
        del rows
        now = time.time()
        wanted = in_order((row for row in changed if self._wanted.accepts(row, now)), self._sort)
        if wanted:
            self._write("".join(f"{line}\n" for line in self._lines(wanted, now)))

    def _lines(self, rows: list[Row], now: float) -> list[str]:
        if self._form == "json":
            return [json.dumps(as_item(row)) for row in rows]
        if self._form == "name":
            new = [name for name in as_names(rows) if name not in self._named]
            self._named.update(new)
            return new
        lines = self._columns.lines(rows, now)
        if self._headings:
            self._headings = False
            lines.insert(0, self._columns.heading())
        return lines


def follow(follower: Follower, shown: Drawn | Appended) -> NoReturn:
    """Show what comes until that is broken off. Raises ClusterError when it cannot come any more."""
    rows = Rows()
    with follower:
        shown.begin()
        listed = False
        while True:
            changed: dict[Key, Row] = {}
            update = follower.next(_TICK_S)
            # What has come meanwhile is shown at once.
            for _ in range(_AT_ONCE):
                if update is None:
                    break
                changed |= {row.key: row for row in _taken(rows, update, shown)}
                listed = listed or isinstance(update, Listed)
                update = follower.next(0)
            if listed:
                shown.show(rows, changed.values())


def _taken(rows: Rows, update: Update, shown: Drawn | Appended) -> list[Row]:
    match update:
        case Listed():
            return rows.replace(update.rows)
        case Change():
            return rows.apply(update)
        case Remark():
            shown.remark(update.text)
            return []
        case Failed():
            raise update.error
