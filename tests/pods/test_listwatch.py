"""What comes from the API server about pods, line by line. The rest of it: test_podindex.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.pods.listwatch import PodFeed
from tests.apiserver import ApiServer
from tests.support.kube import KubeApi
from tests.support.pods import pod

WIRE = Path(__file__).parents[1] / "wire"


def feed(api: Any = None) -> PodFeed:
    return PodFeed(api, label="app")


def line(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def test_a_real_servers_streamed_list_is_understood() -> None:
    recorded = json.loads((WIRE / "13-pods-watchlist.json").read_text())["response"]["stream"]
    changes = [feed().change(json.dumps(event).encode()) for event in recorded]
    assert all(change.pod is not None and not change.end_of_list for change in changes[:-1])
    assert changes[-1].end_of_list
    assert changes[-1].version == recorded[-1]["object"]["metadata"]["resourceVersion"]


def test_a_pod_cannot_end_a_list_by_its_annotations() -> None:
    one = pod("a", "10.0.0.1", uid="u", annotations={"k8s.io/initial-events-end": "true"})
    assert not feed().change(line("ADDED", one)).end_of_list


def test_a_pod_that_is_gone_is_known_by_its_uid_and_shown_as_it_was_last() -> None:
    change = feed().change(line("DELETED", pod("a", "10.0.0.1", uid="u", resourceVersion="7")))
    assert (change.gone, change.version) == ("u", "7")
    assert change.pod is not None
    assert change.pod.addresses == ("10.0.0.1",)


def test_texts_that_pods_share_are_kept_once() -> None:
    reader = feed()
    pods = [
        reader.change(
            line("ADDED", pod(f"p{n}", f"10.0.0.{n}", uid=f"u{n}", labels={"app": "shop"}, resourceVersion="1"))
        ).pod
        for n in range(2)
    ]
    first, second = pods
    assert first is not None
    assert second is not None
    assert first.node is second.node
    assert first.ref.namespace is second.ref.namespace
    assert first.ref.label is second.ref.label
    assert first.host_addresses is second.host_addresses
    assert first.key is first.ref.uid


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
        feed().change(line("ERROR", status))
    assert (caught.value.status, caught.value.reason) == (410, "Expired")


def test_a_list_in_pages_of_a_nodes_pods_comes_from_the_servers_memory(server: ApiServer, tmp_path: Path) -> None:
    server.watch_list = "reject"
    server.pods.put(pod("a", "10.0.0.1"))
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    pods, version = PodFeed(api, field_selector="spec.nodeName=worker-3").all()
    assert [pod.ref.name for pod in pods] == ["a"]
    assert version.isdecimal()
    (request,) = server.requests(verb="list")
    assert request.query["resourceVersion"] == "0"
    api.close()


def test_what_is_closed_before_it_begins_reads_nothing(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    reader = PodFeed(api)
    reader.close()
    with pytest.raises(ApiError):
        reader.all()
    assert server.requests() == []
    api.close()
