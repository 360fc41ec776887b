"""The lines of a watch of pods. What else they may hold: test_watch_lines.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.errors import ApiError
from kiptail.pods.changes import MAX_BAD_LINES, ChangeReader
from kiptail.pods.reducer import PodReducer
from tests.support.pods import pod

WIRE = Path(__file__).parents[1] / "wire"


def changes() -> ChangeReader:
    return ChangeReader(PodReducer(label="app", node="", clock=OwnClock()).reduced)


def line(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def test_a_real_servers_streamed_list_is_understood() -> None:
    recorded = json.loads((WIRE / "13-pods-watchlist.json").read_text())["response"]["stream"]
    read = [changes().read(json.dumps(event).encode()) for event in recorded]
    assert all(change.pod is not None and not change.end_of_list for change in read[:-1])
    assert read[-1].end_of_list
    assert read[-1].version == recorded[-1]["object"]["metadata"]["resourceVersion"]


def test_a_pod_cannot_end_a_list_by_its_annotations() -> None:
    one = pod("a", "10.0.0.1", uid="u", annotations={"k8s.io/initial-events-end": "true"})
    assert not changes().read(line("ADDED", one)).end_of_list


def test_a_pod_that_is_gone_is_known_by_its_uid_and_shown_as_it_was_last() -> None:
    change = changes().read(line("DELETED", pod("a", "10.0.0.1", uid="u", resourceVersion="7")))
    assert (change.gone, change.version) == ("u", "7")
    assert change.pod is not None
    assert change.pod.addresses == ("10.0.0.1",)


def test_an_error_line_is_the_error_it_tells() -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 410,
        "reason": "Expired",
        "message": "too old\nresource version",
    }
    with pytest.raises(ApiError, match="too old resource version") as caught:
        changes().read(line("ERROR", status))
    assert (caught.value.status, caught.value.reason) == (410, "Expired")


def test_the_next_stream_is_judged_by_itself() -> None:
    reader = changes()
    for _ in range(MAX_BAD_LINES - 1):
        assert reader.read(b"x").bad
    assert (reader.gaps, reader.garbled) == (True, True)
    reader.begin()
    assert (reader.gaps, reader.garbled) == (False, False)
    assert reader.read(b"x").bad, "not one of as many in a row"
    for _ in range(MAX_BAD_LINES - 2):
        reader.read(b"x")
    with pytest.raises(ApiError, match="is no watch"):
        reader.read(b"x")
    assert reader.refused == 2 * MAX_BAD_LINES - 1
