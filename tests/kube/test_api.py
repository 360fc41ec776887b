"""kubeapi against the stand-in API server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kiptail import __version__
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.support.kube import (
    EVENT,
    LIST,
    POD,
    failure,
    list_pods,
    raw,
    reply,
    server_tls,
)


def test_pods_come_page_by_page(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    for number in range(5):
        server.pods.put({**POD, "metadata": {"name": f"p{number}", "namespace": "team-a"}})
    api = opened()
    page = api.list_pods_page(limit=3, field_selector="spec.nodeName=node1")
    assert [pod["metadata"]["name"] for pod in page["items"]] == ["p0", "p1", "p2"]
    rest = api.list_pods_page(
        limit=3,
        continue_token=page["metadata"]["continue"],
        resource_version="0",  # would be refused beside a token
        field_selector="spec.nodeName=node1",
    )
    assert [pod["metadata"]["name"] for pod in rest["items"]] == ["p3", "p4"]
    assert api.list_pods_page(limit=1, resource_version="0", field_selector="spec.nodeName=x")["items"] == []
    asked = server.requests()[-1]
    assert asked.query == {"limit": "1", "resourceVersion": "0", "fieldSelector": "spec.nodeName=x"}
    assert asked.headers["User-Agent"] == f"kiptail/{__version__}"


def test_a_namespaces_pods_and_policies_come_page_by_page(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    for number in range(3):
        for namespace in ("team-a", "team-b"):
            metadata = {"name": f"p{number}", "namespace": namespace}
            server.pods.put({**POD, "metadata": metadata})
            server.network_policies.put({"metadata": metadata, "spec": {"podSelector": {}}})
    api = opened()
    page = api.list_pods_page(limit=5, namespace="team-b")
    assert [pod["metadata"]["namespace"] for pod in page["items"]] == ["team-b"] * 3
    page = api.list_network_policies_page("team-a", limit=2)
    rest = api.list_network_policies_page("team-a", limit=2, continue_token=page["metadata"]["continue"])
    assert [each["metadata"]["name"] for each in (*page["items"], *rest["items"])] == ["p0", "p1", "p2"]


def test_a_namespace_has_its_labels(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.namespaces.put({"metadata": {"name": "team-c", "labels": {"team": "c"}}})
    assert opened().namespace("team-c")["metadata"]["labels"] == {"team": "c"}
    error = failure(lambda: opened().namespace("team-d"))
    assert (error.status, error.reason) == (404, "NotFound")


def test_the_groups_of_the_server_are_known(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.api.more_groups = ("cilium.io",)
    assert {"networking.k8s.io", "cilium.io"} <= opened().groups()


def test_an_event_is_created_once_and_then_patched(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    api.create_event("team-a", EVENT)
    error = failure(lambda: api.create_event("team-a", EVENT))
    assert (error.status, error.reason, error.transient) == (409, "AlreadyExists", False)
    api.patch_event("team-a", "web.1", {"count": 7})
    assert [(event["message"], event["count"]) for event in server.events()] == [("m", 7)]
    error = failure(lambda: api.patch_event("team-a", "web.2", {"count": 7}))
    assert (error.status, error.reason) == (404, "NotFound")
    assert server.requests("PATCH")[0].headers["Content-Type"] == "application/strategic-merge-patch+json"


def test_causes_are_passed_on(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.terminate_namespace("team-a")
    error = failure(lambda: opened().create_event("team-a", EVENT))
    assert (error.status, error.causes) == (403, ("NamespaceTerminating",))


def test_names_cannot_change_the_path(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"{}")) as (api, server):
        failure(lambda: api.patch_event("a/../b", "n?m#k ü%41", {}))
        assert server.heads[0].startswith("PATCH /api/v1/namespaces/a%2F..%2Fb/events/n%3Fm%23k%20%C3%BC%2541 ")
        for namespace, name in ((".", "a"), ("..", "a"), ("", "a"), ("a", ".."), ("a", "")):
            with pytest.raises(ValueError, match="not a name"):
                api.patch_event(namespace, name, {})


def test_rights_are_asked_for_with_the_selector_that_will_be_used(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    api = opened(client=("system:node:node1", "system:nodes"))
    assert api.allowed("list", "pods") is False
    assert api.allowed("list", "pods", field_selector=("spec.nodeName", "node1")) is True
    assert api.allowed("list", "pods", field_selector=("spec.nodeName", "node2")) is False
    assert api.allowed("create", "events") is True
    for status in (403, 404):
        with server.faults.status(status):
            assert api.allowed("create", "events") is None
    with server.faults.status(500):
        assert failure(lambda: api.allowed("create", "events")).status == 500


def test_exchanges_are_observed(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    seen: list[tuple[str, str]] = []
    api = opened(observe=lambda verb, code, seconds: seen.append((verb, code)) if seconds >= 0 else None)
    list_pods(api)
    api.create_event("team-a", EVENT)
    api.patch_event("team-a", "web.1", {"count": 2})
    api.allowed("create", "events")
    with api.watch_pods(resource_version="0", timeout_s=5):
        pass
    with server.faults.status(401, count=1):
        list_pods(api)
    server.stop()
    failure(lambda: list_pods(api))
    assert seen == [
        ("list", "200"),
        ("create", "201"),
        ("patch", "200"),
        ("review", "201"),
        ("watch", "200"),
        ("list", "401"),
        ("list", "200"),
        ("list", "error"),
    ]


def test_connections_are_used_again(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    for _ in range(5):
        list_pods(api)
        failure(lambda: api.patch_event("team-a", "none", {}))
    assert len({request.connection for request in server.requests()}) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_no_error(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    api = opened()
    list_pods(api)
    server.stop()
    server.start()
    list_pods(api)


def test_many_threads_may_ask_at_once(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                list_pods(api)
        except BaseException as error:  # noqa: BLE001 - raised in no thread's place
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(server.requests(status=200)) == 80


def test_a_page_of_many_megabytes(tmp_path: Path) -> None:
    items = [{"metadata": {"name": "x" * 1000}}] * 20_000
    body = json.dumps(LIST | {"items": items}).encode()
    assert len(body) > 19 << 20
    with raw(tmp_path, reply(body), tls=server_tls()) as (api, _):
        assert len(list_pods(api)["items"]) == 20_000


def test_importing_it_does_not_import_the_client_library() -> None:
    script = "import sys, kiptail.kube.api; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=20)
