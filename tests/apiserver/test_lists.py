"""Lists and pages of the test server."""

import pytest

from tests.apiserver.client import pages
from tests.apiserver.objects import POD_URL, event, pod


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 100])
def test_pages_add_up_to_the_whole_list_in_key_order(client, server, limit):
    # The key is the path in etcd, where "a-b/" comes before "a/".
    for namespace in ("a", "a-b", "b"):
        for name in ("x", "x-1", "y.z"):
            server.pods.put(pod(name, namespace=namespace))
    found = pages(client, "/api/v1/pods", limit)
    keys = [(item["metadata"]["namespace"], item["metadata"]["name"]) for page in found for item in page.body["items"]]
    assert keys == [(namespace, name) for namespace in ("a-b", "a", "b") for name in ("x", "x-1", "y.z")]
    left = [page.body["metadata"].get("remainingItemCount", 0) for page in found]
    assert left == [max(0, 9 - limit * (number + 1)) for number in range(len(found))]


def test_pages_show_one_moment_whatever_happens_between_them(client, server):
    for number in range(6):
        server.pods.put(pod(f"p{number}"))
    first = client.get("/api/v1/pods?limit=2").body
    server.pods.delete("p3", namespace="team-a")
    server.pods.put(pod("p2-new"))
    server.pods.patch("p4", {"metadata": {"labels": {"late": "1"}}}, namespace="team-a")
    second = client.get(f"/api/v1/pods?limit=9&continue={first['metadata']['continue']}")
    assert second.names == ["p2", "p3", "p4", "p5"]
    assert "labels" not in second.body["items"][2]["metadata"]
    assert second.body["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


def test_a_page_too_late_is_410_with_a_token_that_goes_on_inconsistently(client, server):
    for number in range(4):
        server.pods.put(pod(f"p{number}"))
    url = POD_URL.format(namespace="team-a")
    token = client.get(f"{url}?limit=2").body["metadata"]["continue"]
    server.pods.put(pod("p9"))
    server.compact()
    late = client.get(f"{url}?limit=2&continue={token}")
    assert (late.status, late.body["reason"]) == (410, "Expired")
    rest = client.get(f"{POD_URL.format(namespace='team-a')}?limit=9&continue={late.body['metadata']['continue']}")
    assert rest.names == ["p2", "p3", "p9"]


def test_the_cache_ignores_limits_but_events_have_no_cache(client, server):
    for number in range(3):
        server.pods.put(pod(f"p{number}"))
        server.events.put(event(f"e{number}"))
    assert len(client.get("/api/v1/pods?resourceVersion=0&limit=1").names) == 3
    assert len(client.get("/api/v1/events?resourceVersion=0&limit=1").names) == 1


def test_a_selected_page_tells_no_remaining_count(client, server):
    for number in range(3):
        server.pods.put(pod(f"p{number}"))
    page = client.get("/api/v1/pods?limit=1&fieldSelector=spec.nodeName=node-1").body
    assert page["metadata"].keys() == {"resourceVersion", "continue"}


def test_an_exact_version_shows_the_past(client, server):
    version = server.pods.put(pod("old"))["metadata"]["resourceVersion"]
    server.pods.put(pod("new"))
    server.pods.patch("old", {"status": {"phase": "Failed"}}, namespace="team-a")
    past = client.get(f"/api/v1/pods?resourceVersion={version}&resourceVersionMatch=Exact")
    assert (past.names, past.body["items"][0]["status"]["phase"]) == (["old"], "Running")
    assert past.body["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=x", 400),
        ("resourceVersion=x", 400),
        ("continue=%21%21", 400),
        ("limit=2&continue=eyJydiI6MSwic3RhcnQiOiJhIn0&resourceVersion=5", 400),
        ("resourceVersionMatch=Exact", 422),
        ("sendInitialEvents=true", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422),
        ("fieldSelector=metadata.name", 400),
    ],
)
def test_malformed_queries_are_refused(client, query, status):
    assert client.get(f"/api/v1/pods?{query}").status == status


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=web", ["web"]),
        ("metadata.namespace==team-b", ["job"]),
        ("metadata.namespace!=team-b", ["agent", "web"]),
        ("spec.nodeName=node-1", ["web"]),
        ("spec.nodeName=", ["job"]),
        ("spec.restartPolicy=Never", ["job"]),
        ("spec.schedulerName=mine", ["job"]),
        ("spec.serviceAccountName=robot", ["job"]),
        ("spec.hostNetwork=true", ["agent"]),
        ("spec.hostNetwork=false", ["web", "job"]),
        ("status.phase=Succeeded", ["job"]),
        ("status.phase!=Succeeded,spec.nodeName!=node-1", ["agent"]),
        ("status.podIP=10.0.0.1", ["web"]),
        ("status.podIP=fd00::1", []),
        ("status.podIP=10.0.0.3", ["job"]),
        ("status.podIPs=10.0.0.1", []),
        ("status.nominatedNodeName=node-9", ["job"]),
        ("", ["agent", "web", "job"]),
    ],
)
def test_field_selectors_of_pods(client, server, selector, names):
    web = pod("web", ip="10.0.0.1")
    web["status"]["podIPs"].append({"ip": "fd00::1"})
    agent = pod("agent", node="node-2", ip="192.0.2.1")
    agent["spec"]["hostNetwork"] = True
    server.pods.put(web)
    server.pods.put(agent)
    spec = {"restartPolicy": "Never", "schedulerName": "mine", "serviceAccountName": "robot"}
    status = {"phase": "Succeeded", "podIP": "10.0.0.3", "nominatedNodeName": "node-9"}
    server.pods.put({"metadata": {"name": "job", "namespace": "team-b"}, "spec": spec, "status": status})
    assert client.get(f"/api/v1/pods?fieldSelector={selector}").names == names


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("involvedObject.name=web,involvedObject.uid=u1,involvedObject.namespace=team-a", ["e1"]),
        ("involvedObject.kind=Node", ["e2"]),
        ("involvedObject.apiVersion=v1,involvedObject.resourceVersion=7", ["e2"]),
        ("involvedObject.fieldPath=spec.x", ["e2"]),
        ("reason=PacketDrop", ["e1"]),
        ("type!=Warning", ["e2"]),
        ("source=kiptail", ["e1"]),
        ("source=other", ["e2"]),
        ("reportingComponent=other", ["e2"]),
    ],
)
def test_field_selectors_of_events(client, server, selector, names):
    server.events.put(event("e1", source={"component": "kiptail"}))
    other = {"kind": "Node", "name": "n", "apiVersion": "v1", "resourceVersion": "7", "fieldPath": "spec.x"}
    server.events.put(
        event("e2", involvedObject=other, type="Normal", reason="R", reportingComponent="other", source={})
    )
    assert client.get(f"/api/v1/events?fieldSelector={selector}").names == names
    assert client.get("/api/v1/events?fieldSelector=message=m").status == 400


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=web", ["p1"]),
        ("app==web,tier=x", ["p1"]),
        ("app!=web", ["p2", "p3"]),
        ("app", ["p1", "p2"]),
        ("!app", ["p3"]),
        ("app in (web, db)", ["p1", "p2"]),
        ("app notin (web)", ["p2", "p3"]),
    ],
)
def test_label_selectors(client, server, selector, names):
    server.pods.put(pod("p1", labels={"app": "web", "tier": "x"}))
    server.pods.put(pod("p2", labels={"app": "db"}))
    server.pods.put(pod("p3"))
    assert client.get("/api/v1/pods?labelSelector=" + selector.replace(" ", "%20")).names == names
    assert client.get("/api/v1/pods?labelSelector=%28").status == 400
