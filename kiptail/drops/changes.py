"""What a list and a watch of Events tell, kept up: which rows there are, and which are new (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiptail.drops.row import Json, Key, Row, key_of, row_of
from kiptail.kube import strict_json

__all__ = ["Change", "Rows", "read_line"]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch."""

    #: Which Event it is of; None: of none.
    key: Key | None = None
    #: How that is by now; None: it is gone, or tells of no drops.
    row: Row | None = None
    #: The resourceVersion from which a watch can go on; "": as before.
    version: str = ""
    #: The watch cannot go on: all has to be listed again.
    failed: bool = False


def read_line(line: bytes) -> Change:
    """What a line says; one that is not what it should be ends the watch."""
    try:
        document = strict_json.parse(line)
    except ValueError:
        return Change(failed=True)
    kind = document.get("type") if isinstance(document, dict) else None
    event = document.get("object") if isinstance(document, dict) else None
    if not isinstance(event, dict) or kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        return Change(failed=True)
    version = _version(event)
    if kind == "BOOKMARK":
        return Change(version=version)
    return Change(key_of(event), None if kind == "DELETED" else row_of(event), version)


class Rows:
    """All rows there are."""

    #: No more are kept: the oldest go.
    MOST = 50_000

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def replace(self, rows: Iterable[Row]) -> list[Row]:
        """A new list; those rows of it that were not known as they are."""
        before, self._rows = self._rows, {row.key: row for row in rows}
        return [row for key, row in self._rows.items() if before.get(key) != row]

    def apply(self, change: Change) -> list[Row]:
        """A line of the watch; the row, if it was not known as it is."""
        if change.key is None:
            return []
        before = self._rows.pop(change.key, None)
        if change.row is None:
            return []
        self._rows[change.key] = change.row
        if len(self._rows) > self.MOST:
            del self._rows[next(iter(self._rows))]
        return [change.row] if change.row != before else []


def _version(event: Json) -> str:
    metadata = event.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""
