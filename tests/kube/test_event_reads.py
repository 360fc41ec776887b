"""The API server's Events, read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail.errors import ApiError
from kiptail.kube.event_reads import EventReader
from kiptail.kube.pages import items_of, version_of
from tests.apiserver import ApiServer
from tests.support.drops import drop_event, other_event


@pytest.fixture
def reader(server: ApiServer, tmp_path: Path) -> Iterator[EventReader]:
    with contextlib.closing(EventReader.from_kubeconfig(server.kubeconfig(tmp_path / "kubeconfig"))) as reader:
        yield reader


def test_a_list_is_of_a_namespace_or_of_all_by_pages_and_fields(server: ApiServer, reader: EventReader) -> None:
    server.events.put(drop_event("web-0"))
    server.events.put(drop_event("db-0", namespace="team-b"))
    server.events.put(other_event("x") | {"reason": "BackOff"})

    def pods(namespace: str, **options: str) -> list[str]:
        page = reader.list_events_page(namespace, limit=10, **options)
        return sorted(event["involvedObject"]["name"] for event in items_of(page))

    assert pods("team-a", field_selector="reason=PacketDrop") == ["web-0"]
    assert pods("", field_selector="reason=PacketDrop") == ["db-0", "web-0"]
    assert pods("team-a") == ["web-0", "web-0"]
    first = reader.list_events_page("", limit=2)
    rest = reader.list_events_page("", limit=2, continue_token=first["metadata"]["continue"])
    assert (len(items_of(first)), len(items_of(rest))) == (2, 1)


def test_a_watch_goes_on_from_a_list(server: ApiServer, reader: EventReader) -> None:
    server.events.put(drop_event("web-0"))
    version = version_of(reader.list_events_page("team-a", limit=10))
    watch = reader.watch_events("team-a", resource_version=version, field_selector="reason=PacketDrop", timeout_s=60)
    with watch as lines:
        server.wait_for(server.watches)
        server.events.put(drop_event("db-0", namespace="team-b"))
        server.events.put(drop_event("web-1"))
        line = json.loads(next(lines))
    assert (line["type"], line["object"]["involvedObject"]["name"]) == ("ADDED", "web-1")


def test_what_is_refused_names_the_namespace(server: ApiServer, tmp_path: Path) -> None:
    token = server.add_user("jane")
    path = server.kubeconfig(tmp_path / "jane", token=token)
    with contextlib.closing(EventReader.from_kubeconfig(path)) as reader:
        with pytest.raises(ApiError, match="cannot list events in team-a: ") as failed:
            reader.list_events_page("team-a", limit=1)
        assert failed.value.status == 403
        with (
            pytest.raises(ApiError, match="cannot watch events in team-a: "),
            reader.watch_events("team-a", resource_version="1", timeout_s=1),
        ):
            pass
