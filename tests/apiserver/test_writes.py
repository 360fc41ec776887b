"""Writes to the test server."""

import re

import pytest

from tests.apiserver.client import MERGE
from tests.apiserver.objects import EVENTS, POD_URL, event, pod


def test_a_strategic_patch_merges_maps_and_keyed_lists(client, server):
    old = pod("web", labels={"app": "web", "old": "1"}, finalizers=["a"])
    old["status"]["conditions"] = [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]
    server.pods.put(old)
    url = f"{POD_URL.format(namespace='team-a')}/web"
    patch = {"metadata": {"labels": {"old": None, "new": "2"}, "finalizers": ["b"]}}
    changed = client.patch(url, patch).body["metadata"]
    assert changed["labels"] == {"app": "web", "new": "2"}
    assert changed["finalizers"] == ["b"]
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Other", "$patch": "delete"}, {"type": "New"}]
    status = client.patch(f"{url}/status", {"status": {"conditions": conditions, "phase": None}}).body["status"]
    assert [(one["type"], one.get("status")) for one in status["conditions"]] == [
        ("Ready", "True"),
        ("New", None),
    ]
    assert "phase" not in status
    # A patch of the object itself does not reach its status, and a merge patch replaces lists.
    assert client.patch(url, {"status": {"phase": "Failed"}}).body["status"] == status
    replaced = client.patch(f"{url}/status", {"status": {"conditions": [{"type": "X"}]}}, MERGE).body["status"]
    assert [one["type"] for one in replaced["conditions"]] == ["X"]


def test_a_patch_that_changes_nothing_writes_nothing(client, server):
    server.store.ensure_namespace("team-a")
    created = client.post(EVENTS, event("e1", count=3)).body
    assert client.patch(f"{EVENTS}/e1", {"count": 3, "source": {}}).body == created
    assert client.patch(f"{EVENTS}/e1", {"count": 4}).body["metadata"]["resourceVersion"] == str(server.store.version)


def test_a_replacement_minds_the_version_it_names(client, server):
    server.store.ensure_namespace("team-a")
    created = client.post(EVENTS, event("e1")).body
    assert client.put(f"{EVENTS}/e1", {**created, "count": 2}).body["count"] == 2
    stale = client.put(f"{EVENTS}/e1", {**created, "count": 3})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert client.put(f"{EVENTS}/e1", event("e1", count=4)).body["metadata"]["uid"] == created["metadata"]["uid"]
    assert client.put(f"{EVENTS}/e1", event("e2")).status == 400
    assert client.put(f"{EVENTS}/e2", event("e2")).status == 404
    other = {**created, "metadata": {"name": "e1", "uid": "another"}}
    assert client.put(f"{EVENTS}/e1", other).status == 409


TIME = "2026-11-22T18:00:00.123456Z"
STRICT = {"eventTime": TIME, "action": "Drop", "reportingComponent": "kiptail", "reportingInstance": "n"}


@pytest.mark.parametrize(
    ("fields", "status", "causes"),
    [
        pytest.param({"message": "x" * 5000}, 201, [], id="no cap without eventTime"),
        pytest.param({**STRICT, "message": "x" * 1024}, 201, [], id="at the cap"),
        pytest.param({**STRICT, "message": "ä" * 513}, 422, ["message"], id="the cap is in bytes"),
        pytest.param(
            {"eventTime": TIME, "reason": ""},
            422,
            ["reportingComponent", "reportingInstance", "action", "reason"],
            id="required with eventTime",
        ),
        pytest.param({**STRICT, "action": "x" * 129}, 422, ["action"], id="action too long"),
        pytest.param({"eventTime": "2026-11-22T18:00:00Z"}, 400, [], id="eventTime without a fraction"),
        pytest.param({"lastTimestamp": "yesterday"}, 400, [], id="no time"),
        pytest.param({"count": "1"}, 400, [], id="count is text"),
        pytest.param({"count": 2**31}, 400, [], id="count too large"),
        pytest.param({"message": 1}, 400, [], id="message is a number"),
        pytest.param({"involvedObject": {"kind": "Node", "name": "n"}}, 422, ["involvedObject.namespace"], id="node"),
        pytest.param({"metadata": {"name": "e", "namespace": "other"}}, 400, [], id="another namespace"),
        pytest.param({"metadata": {}}, 422, ["metadata.name"], id="no name"),
        pytest.param({"kind": "Pod"}, 400, [], id="another kind"),
        pytest.param({"metadata": {"name": "e", "resourceVersion": "1"}}, 400, [], id="a version"),
    ],
)
def test_events_are_validated(client, server, fields, status, causes):
    server.store.ensure_namespace("team-a")
    reply = client.post(EVENTS, event("e", **fields))
    assert reply.status == status, reply.body
    details = reply.body.get("details") or {}
    assert [cause["field"] for cause in details.get("causes", [])] == causes


def test_an_event_is_stored_as_the_api_reads_it(client, server):
    server.store.ensure_namespace("team-a")
    sent = event("e", firstTimestamp="2026-11-22T18:00:00.9+01:00", misspelt=1, source={"component": "k", "x": 1})
    stored = client.post(EVENTS, sent).body
    assert stored["firstTimestamp"] == "2026-11-22T17:00:00Z"
    assert stored["source"] == {"component": "k"}
    assert "misspelt" not in stored
    assert client.patch(f"{EVENTS}/e", {"related": {"kind": "Pod", "name": "b", "foo": 1}}).body["related"] == {
        "kind": "Pod",
        "name": "b",
    }


@pytest.mark.parametrize(
    ("annotations", "status"),
    [
        pytest.param({"kiptail/flow": "{}", "plain": "", "Example.COM/Seen_by.x": "é"}, 201, id="texts"),
        pytest.param(None, 201, id="null"),
        pytest.param({"kiptail/flow": {"a": 1}}, 400, id="an object"),
        pytest.param(["kiptail/flow"], 400, id="a list"),
        pytest.param({"kiptail/": "x"}, 422, id="no name"),
        pytest.param({"a/b/c": "x"}, 422, id="two slashes"),
        pytest.param({"x" * 64: "x"}, 422, id="a long name"),
        pytest.param({"k": "x" * (256 << 10)}, 422, id="too much"),
    ],
)
def test_annotations_are_texts_under_qualified_names(client, server, annotations, status):
    server.store.ensure_namespace("team-a")
    reply = client.post(EVENTS, event("e", metadata={"name": "e", "annotations": annotations}))
    assert reply.status == status, reply.body
    if status == 422:
        assert [cause["field"] for cause in reply.body["details"]["causes"]] == ["metadata.annotations"]


def test_annotations_are_merged_key_by_key_and_checked_by_a_patch_too(client, server):
    server.store.ensure_namespace("team-a")
    client.post(EVENTS, event("e", metadata={"name": "e", "annotations": {"a": "1", "b": "2"}}))
    changed = client.patch(f"{EVENTS}/e", {"metadata": {"annotations": {"b": "3", "c": "4"}}}).body
    assert changed["metadata"]["annotations"] == {"a": "1", "b": "3", "c": "4"}
    assert client.patch(f"{EVENTS}/e", {"metadata": {"annotations": {"a": None}}}).body["metadata"]["annotations"] == {
        "b": "3",
        "c": "4",
    }
    assert client.patch(f"{EVENTS}/e", {"metadata": {"annotations": {"a": 1}}}).status == 400


def test_generated_names_and_dry_runs(client, server):
    server.store.ensure_namespace("team-a")
    made = client.post(EVENTS, event("", metadata={"generateName": "web."})).body["metadata"]["name"]
    assert re.fullmatch(r"web\.[a-z0-9]{5}", made)
    assert client.post(f"{EVENTS}?dryRun=All", event("dry")).status == 201
    assert len(server.events()) == 1


def test_a_deleted_event_can_be_created_again_but_not_patched(client, server):
    server.store.ensure_namespace("team-a")
    first = client.post(EVENTS, event("e")).body
    gone = client.delete(f"{EVENTS}/e").body
    assert (gone["status"], gone["details"]["uid"]) == ("Success", first["metadata"]["uid"])
    assert client.patch(f"{EVENTS}/e", {"count": 2}).status == 404
    assert client.delete(f"{EVENTS}/e").status == 404
    assert client.post(EVENTS, event("e")).body["metadata"]["uid"] != first["metadata"]["uid"]
    client.delete(EVENTS)
    assert server.events() == []


def test_a_pod_stays_for_its_grace_period_and_goes_with_grace_0(client, server):
    server.pods.put(pod("web"))
    server.pods.put(pod("done", phase="Succeeded"))
    url = POD_URL.format(namespace="team-a")
    with client.watch(f"{url}?watch=1&resourceVersion={server.store.version}") as watch:
        marked = client.delete(f"{url}/web", {"gracePeriodSeconds": 60}).body["metadata"]
        assert (marked["deletionGracePeriodSeconds"], marked["generation"]) == (60, 2)
        server.terminate("web", namespace="team-a", grace=60)  # Deleting again changes nothing.
        client.delete(f"{url}/web?gracePeriodSeconds=0")
        client.delete(f"{url}/done")
        assert watch.short(4) == [
            ("MODIFIED", "web"),
            ("MODIFIED", "web"),
            ("DELETED", "web"),
            ("MODIFIED", "done"),
        ]
    assert server.pods() == []


def test_a_namespace_that_is_deleted_refuses_new_content(client, server):
    server.store.ensure_namespace("team-a")
    client.post(EVENTS, event("e"))
    assert client.delete("/api/v1/namespaces/team-a").body["status"]["phase"] == "Terminating"
    refused = client.post(EVENTS, event("f"))
    assert (refused.status, refused.body["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    assert client.patch(f"{EVENTS}/e", {"count": 2}).status == 200
    server.namespaces.delete("team-a")
    assert client.post(EVENTS, event("f")).status == 404
    assert client.post("/api/v1/namespaces", {"metadata": {"name": "team-a"}}).status == 201
    assert client.post(EVENTS, event("f")).status == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/secrets", 404),
        ("GET", "/apis/apps/v1/deployments", 404),
        ("GET", "/api/v1/namespaces/team-a/nodes", 404),
        ("GET", "/api/v1/namespaces/team-a/events/e/status", 404),
        ("GET", "/nonsense", 404),
        ("GET", "/apis/nonsense/v1", 404),
        ("POST", "/api/v1/events", 405),
        ("POST", "/api/v1/namespaces/team-a/events/e", 405),
        ("GET", "/api/v1/namespaces/team-a/nonsense", 404),
        ("GET", "/api/v1/namespaces/team-a/status", 200),
        ("GET", "/api/v1", 200),
        ("GET", "/apis/apps/v1", 200),
        ("GET", "/livez", 200),
        ("GET", "/healthz", 200),
    ],
)
def test_paths(client, server, method, path, status):
    server.store.ensure_namespace("team-a")
    body = None if method == "GET" else event("e")
    assert client.request(method, path, body).status == status


def test_a_body_that_is_no_json_object_is_400(client, server):
    server.store.ensure_namespace("team-a")
    assert client.post(EVENTS, b"{").status == 400
    assert client.post(EVENTS, b"[]").status == 400
