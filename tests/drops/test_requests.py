"""The Events of a namespace, and a workload's pods, by a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kiptail.drops import requests
from kiptail.drops.owned import target
from kiptail.drops.requests import list_rows, refused, with_known_pods
from kiptail.drops.wanted import Wanted
from kiptail.errors import ApiError
from kiptail.kube.event_reads import EventReader
from tests.apiserver import ApiServer
from tests.support.drops import drop_event, other_event
from tests.support.policies import workload_pod

WANTED = Wanted(namespace="team-a", reason="PacketDrop")


@pytest.fixture
def api(server: ApiServer, tmp_path: Path) -> Iterator[EventReader]:
    """Of a user who may list the Events of team-a."""
    token = server.add_user("jane")
    server.grant("jane", "list", "events", namespace="team-a")
    reader = EventReader.from_kubeconfig(server.kubeconfig(tmp_path / "kubeconfig", token=token))
    yield reader
    reader.close()


def test_all_pages_of_the_reason_are_read(server: ApiServer, api: EventReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAGE", 2)
    for number in range(5):
        server.events.put(drop_event(f"web-{number}"))
    server.events.put(other_event("x") | {"reason": "BackOff", "metadata": {"name": "b", "namespace": "team-a"}})
    server.events.put(drop_event("web-0", namespace="team-b"))
    rows, version = list_rows(api, WANTED)
    assert sorted(row.pod for row in rows) == [f"web-{number}" for number in range(5)]
    assert version == str(server.store.version)
    asked = server.requests(path_prefix="/api/v1/namespaces/team-a/events")
    assert len(asked) == 3
    assert {request.query["fieldSelector"] for request in asked} == {"reason=PacketDrop"}


def test_one_pods_are_selected_by_the_server(server: ApiServer, api: EventReader) -> None:
    for name in ("web-0", "web-1"):
        server.events.put(drop_event(name))
    rows, _ = list_rows(api, replace(WANTED, target=target("pod/web-1")))
    assert [row.pod for row in rows] == ["web-1"]


def test_a_right_that_is_missing_is_named(api: EventReader) -> None:
    for wanted, right in (
        (replace(WANTED, namespace="team-b"), "the right to list events in namespace team-b"),
        (replace(WANTED, namespace=""), "the right to list events in all namespaces, or name one of yours"),
    ):
        with pytest.raises(ApiError) as failed:
            list_rows(api, wanted)
        assert right in str(refused(failed.value, wanted))
    assert "renew the credential" in str(refused(ApiError("x", status=401), WANTED))
    assert str(refused(ApiError("refused", remedy="mend it"), WANTED)) == "refused; mend it"


def test_pods_are_known_where_they_may_be_listed(server: ApiServer, api: EventReader) -> None:
    pod = workload_pod("web-abc-x7k2p", "10.0.0.1", owner="ReplicaSet/web-abc", labels={"pod-template-hash": "abc"})
    server.pods.put(pod)
    server.pods.put(workload_pod("web-6d4cf56db6-x7k2p", "10.0.0.2"))
    of_web = replace(WANTED, target=target("deploy/web"))
    assert with_known_pods(api, of_web) is of_web
    server.grant("jane", "list", "pods", namespace="team-a")
    assert with_known_pods(api, of_web).known == {
        "web-abc-x7k2p": True,
        "web-6d4cf56db6-x7k2p": False,
    }
    for unknowable in (WANTED, replace(of_web, namespace=""), replace(WANTED, target=target("pod/web"))):
        assert with_known_pods(api, unknowable) is unknowable
