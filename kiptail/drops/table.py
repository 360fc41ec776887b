"""Rows as a table, as JSON and as names (pure).

Whatever a foreign text holds, a cell of the table is one line of text without control characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kiptail.clock.dates import kubernetes_time
from kiptail.drops.row import Row
from kiptail.text import one_line

__all__ = ["SORTS", "Columns", "Style", "age", "as_document", "as_item", "as_names", "in_order"]

#: A cell of the table is no longer, in characters; the text of a wide one may be as long as it is.
_CELL_LIMIT = 120
_WIDE_LIMIT = 1_100
#: What is not known.
_NOTHING = "-"
#: A drop is fresh for so long, in seconds.
_FRESH_S = 60.0
_HEADING, _FRESH, _RESET = "\x1b[1m", "\x1b[33m", "\x1b[0m"

#: What rows can be in the order of; the greatest is last.
SORTS: dict[str, Callable[[Row], Any]] = {
    "last": lambda row: row.last or 0.0,
    "first": lambda row: row.first or 0.0,
    "count": lambda row: row.count,
    "pod": lambda row: (row.namespace, row.pod),
    "peer": lambda row: row.peer,
    "port": lambda row: (row.port or 0, row.protocol),
}


def in_order(rows: Iterable[Row], sort: str) -> list[Row]:
    """The rows, sorted; those that are the same by that are in the order of their last drop."""
    by = SORTS[sort]
    return sorted(rows, key=lambda row: (by(row), row.last or 0.0, row.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the table looks."""

    wide: bool = False
    #: A column for the namespace.
    namespaces: bool = False
    headings: bool = True
    colours: bool = False
    #: Times instead of ages: for lines that are read later.
    times: bool = False
    #: Longer lines are cut, in characters; 0: none is.
    width: int = 0


class Columns:
    """Columns that become as wide as their longest cell so far, so that lines that come later stand below the first."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._shown = [each for each in _COLUMNS if _is_shown(each[0], style)]
        self._widths = [len(title) for title, _ in self._shown]

    def heading(self) -> str:
        """The first line, without its end."""
        return self._line([title for title, _ in self._shown], _HEADING)

    def lines(self, rows: Sequence[Row], now: float) -> list[str]:
        """A line for each row, without their ends; ``now`` is in seconds since the epoch."""
        cells = [[_cell(title, read, row, now, self._style) for title, read in self._shown] for row in rows]
        for line in cells:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, line, strict=True)]
        return [
            self._line(line, _FRESH if row.last is not None and now - row.last < _FRESH_S else "")
            for line, row in zip(cells, rows, strict=True)
        ]

    def table(self, rows: Sequence[Row], now: float) -> list[str]:
        """All of it, with the heading if there is to be one."""
        lines = self.lines(rows, now)
        return [self.heading(), *lines] if self._style.headings else lines

    def _line(self, cells: Sequence[str], colour: str) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        text = "   ".join(padded).rstrip()
        text = text[: self._style.width] if self._style.width else text
        return f"{colour}{text}{_RESET}" if colour and self._style.colours else text


def age(seconds: float) -> str:
    """As kubectl shows one: ``45s``, ``3m20s``, ``12m``, ``5h10m``, ``3d``."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    for limit, large, small, letters in ((600, 60, 1, "ms"), (10_800, 60, 0, "m"), (28_800, 3_600, 60, "hm")):
        if whole < limit:
            rest = whole % large // small if small else 0
            return f"{whole // large}{letters[0]}{f'{rest}{letters[1]}' if rest else ''}"
    return f"{whole // 3_600}h" if whole < 172_800 else f"{whole // 86_400}d"


def as_item(row: Row) -> dict[str, Any]:
    """A row for programs: every key is there, null where a number or time is not known."""
    return {
        "namespace": row.namespace,
        "pod": row.pod,
        "direction": row.direction,
        "peer": row.peer,
        "port": row.port,
        "protocol": row.protocol,
        "count": row.count,
        "first": _time(row.first) or None,
        "last": _time(row.last) or None,
        "policy": row.policy,
        "why": row.why,
        "message": row.message,
    }


def as_document(rows: Iterable[Row]) -> str:
    """All rows as one JSON object."""
    return json.dumps({"items": [as_item(row) for row in rows]}, indent=1) + "\n"


def as_names(rows: Iterable[Row]) -> list[str]:
    """The pods, each once, as kubectl takes them: ``pod/web-0``."""
    return list(dict.fromkeys(f"pod/{row.pod}" for row in rows))


def _is_shown(title: str, style: Style) -> bool:
    if title == "NAMESPACE":
        return style.namespaces
    return style.wide or title not in _WIDE


def _cell(title: str, read: Callable[[Row], Any], row: Row, now: float, style: Style) -> str:
    value = read(row)
    if title in _TIMES:
        text = _NOTHING if value is None else _time(value) if style.times else age(now - value)
    else:
        text = one_line(str(value), _WIDE_LIMIT if style.wide and title == "MESSAGE" else _CELL_LIMIT)
    return text or _NOTHING


def _time(seconds: float | None) -> str:
    return "" if seconds is None else kubernetes_time(int(seconds * 1e6))


def _direction(row: Row) -> str:
    return f"{row.direction} reply" if row.reply and row.direction else row.direction


def _port(row: Row) -> str:
    if row.icmp:
        return f"{row.protocol} {row.icmp}"
    return "/".join(str(part) for part in (row.port, row.protocol) if part not in (None, ""))


def _why(row: Row) -> str:
    """Where the text says nothing that can be read, the text itself."""
    return row.why if row.direction else row.message


_COLUMNS: tuple[tuple[str, Callable[[Row], Any]], ...] = (
    ("NAMESPACE", lambda row: row.namespace),
    ("LAST SEEN", lambda row: row.last),
    ("FIRST SEEN", lambda row: row.first),
    ("COUNT", lambda row: row.count),
    ("POD", lambda row: row.pod),
    ("DIRECTION", _direction),
    ("PEER", lambda row: row.peer),
    ("ADDRESS", lambda row: row.address),
    ("PORT", _port),
    ("POLICY", lambda row: row.policy),
    ("WHY", _why),
    ("NODE", lambda row: row.node),
    ("MESSAGE", lambda row: row.message),
)
_TIMES = frozenset(("LAST SEEN", "FIRST SEEN"))
#: With ``-o wide`` only.
_WIDE = frozenset(("FIRST SEEN", "ADDRESS", "NODE", "MESSAGE"))
