"""What a list and a watch of Events tell, kept up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kiptail.drops.changes import Change, Rows, read_line
from kiptail.drops.row import row_of
from tests.support.drops import drop_event, flow_of, other_event


def line(kind: str, event: dict[str, Any], version: str = "7") -> bytes:
    event = event | {"metadata": event.get("metadata", {}) | {"resourceVersion": version}}
    return json.dumps({"type": kind, "object": event}).encode()


def test_lines() -> None:
    event = drop_event("web-0")
    key = ("team-a", event["metadata"]["name"])
    for kind in ("ADDED", "MODIFIED"):
        assert read_line(line(kind, event)) == Change(key, row_of(event), "7")
    assert read_line(line("DELETED", event)) == Change(key, None, "7")
    assert read_line(line("ADDED", drop_event("web-0", withdrawn=True))).row is None
    assert read_line(line("BOOKMARK", {"kind": "Event"})) == Change(version="7")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'"x"', b'{"type":"ADDED"}', b'{"type":"ADDED","object":7}', b'{"type":7,"object":{}}',
     b'{"type":"ERROR","object":{"kind":"Status","code":410}}', b"\xff"],
)  # fmt: skip
def test_what_is_no_change_ends_the_watch(data: bytes) -> None:
    assert read_line(data).failed


def test_rows_are_new_when_they_are_not_as_they_were() -> None:
    rows = Rows()
    first, second = drop_event("web-0", flow=flow_of(1, last=1e9)), drop_event("web-1", flow=flow_of(1, last=1e9))
    listed = [row for event in (first, second) if (row := row_of(event)) is not None]
    assert rows.replace(listed) == listed
    assert rows.replace(listed) == []
    assert rows.apply(read_line(line("MODIFIED", first))) == []
    (grown,) = rows.apply(read_line(line("MODIFIED", first | {"count": 2})))
    assert (grown.count, [row.pod for row in rows]) == (2, ["web-1", "web-0"])
    assert rows.apply(read_line(line("DELETED", first))) == []
    assert rows.apply(read_line(line("BOOKMARK", {}))) == []
    assert len(rows) == 1
    (other,) = rows.apply(read_line(line("ADDED", other_event("x"))))
    assert rows.replace([other]) == []
    assert len(rows) == 1


def test_there_are_never_more_than_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rows, "MOST", 2)
    rows = Rows()
    for number in range(4):
        rows.apply(read_line(line("ADDED", drop_event(f"web-{number}"))))
    assert [row.pod for row in rows] == ["web-2", "web-3"]
