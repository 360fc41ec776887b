"""Tables (meta.k8s.io/v1), so that `kubectl get` prints its usual columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.apiserver.answers import Json
from tests.apiserver.record import Request
from tests.apiserver.store import Collection, Stored

__all__ = ["table", "wants_table"]

Cell = Callable[[Mapping[str, Any]], Any]


def _age(text: str | None) -> str:
    """As kubectl shortens it, roughly: 5s, 10m, 3h, 2d."""
    if not text:
        return "<unknown>"
    then = datetime.fromisoformat(text.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _created(obj: Mapping[str, Any]) -> str:
    return _age(obj["metadata"].get("creationTimestamp"))


def _name(obj: Mapping[str, Any]) -> Any:
    return obj["metadata"]["name"]


def _ready(obj: Mapping[str, Any]) -> str:
    statuses = obj.get("status", {}).get("containerStatuses") or []
    containers = obj.get("spec", {}).get("containers") or []
    return f"{sum(bool(one.get('ready')) for one in statuses)}/{len(containers)}"


def _restarts(obj: Mapping[str, Any]) -> str:
    return str(sum(one.get("restartCount", 0) for one in obj.get("status", {}).get("containerStatuses") or []))


def _phase(obj: Mapping[str, Any]) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else obj.get("status", {}).get("phase", "")


_COLUMNS: Mapping[str, Sequence[tuple[str, Cell]]] = {
    "pods": (
        ("Name", _name),
        ("Ready", _ready),
        ("Status", _phase),
        ("Restarts", _restarts),
        ("Age", _created),
        ("IP", lambda obj: obj.get("status", {}).get("podIP", "<none>")),
        ("Node", lambda obj: obj.get("spec", {}).get("nodeName", "<none>")),
    ),
    "events": (
        ("Last Seen", lambda obj: _age(obj.get("lastTimestamp") or obj["metadata"].get("creationTimestamp"))),
        ("Type", lambda obj: obj.get("type", "")),
        ("Reason", lambda obj: obj.get("reason", "")),
        (
            "Object",
            lambda obj: f"{obj['involvedObject'].get('kind', '').lower()}/{obj['involvedObject'].get('name')}",
        ),
        ("Message", lambda obj: obj.get("message", "").strip()),
        ("Count", lambda obj: obj.get("count", 0)),
    ),
}
_PLAIN: Sequence[tuple[str, Cell]] = (("Name", _name), ("Age", _created))
# kubectl shows these with `-o wide` only.
_WIDE = frozenset(("IP", "Node", "Count"))


def wants_table(request: Request) -> bool:
    """Whether the client prefers a table: kubectl's `get` without `-o json`."""
    first = request.headers.get("Accept", "").partition(",")[0]
    return "as=Table" in first


def table(collection: Collection, items: Sequence[Stored], metadata: Mapping[str, Any], request: Request) -> Json:
    """The table of some objects; `metadata` is the list's."""
    columns = _COLUMNS.get(collection.kind.plural, _PLAIN)
    include = request.query.get("includeObject", "Metadata")
    rows: list[Json] = []
    for stored in items:
        obj = collection.load(stored)
        row: Json = {"cells": [read(obj) for _, read in columns]}
        if include == "Object":
            row["object"] = obj
        elif include == "Metadata":
            partial = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
            row["object"] = partial
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": title,
                "type": "string",
                "format": "name" if title == "Name" else "",
                "description": title,
                "priority": int(title in _WIDE),
            }
            for title, _ in columns
        ],
        "rows": rows,
    }
