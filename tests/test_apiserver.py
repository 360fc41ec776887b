"""The test server behaves as the recordings in tests/wire say, and its faults do what they promise."""

import base64
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.apiserver import ApiServer, certificates
from tests.apiserver.client import MERGE, Client

WIRE = Path(__file__).parent / "wire"
RECORDINGS = {path.stem: json.loads(path.read_text()) for path in sorted(WIRE.glob("*.json"))}
# The uid of wire2/server and the resourceVersions of lists, as they were on the recorded server.
RECORDED_UID = "cf4e8c68-d650-40f6-a75d-c5f7344ade55"
POD_URL = "/api/v1/namespaces/{namespace}/pods"
EVENTS = "/api/v1/namespaces/team-a/events"


@pytest.fixture
def server():
    with ApiServer() as running:
        yield running


@pytest.fixture
def client(server):
    with Client(server) as caller:
        yield caller


def pod(name, *, namespace="team-a", node="node-1", ip="10.0.0.1", phase="Running", **metadata):
    return {
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def event(name, *, namespace="team-a", **fields):
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "web", "uid": "u1"}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": involved,
        "reason": "PacketDrop",
        "message": "m",
        "type": "Warning",
        **fields,
    }


# -- the recordings


@dataclass(frozen=True)
class Difference:
    """Why values under some keys are not compared in one recording; their presence and type still are."""

    keys: tuple[str, ...]
    reason: str


VARYING = frozenset(
    ("resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "expirationTimestamp", "continue")
)
# All else is compared to the letter. managedFields are not produced at all: nothing in kiptail reads them.
DIFFERENCES = {
    "15-pods-watch-rv-too-old": Difference(("message",), "names the oldest version of the server's history"),
    "16-pods-list-rv-future": Difference(("message",), "names the server's current version"),
    "29-version": Difference(
        ("gitVersion", "gitCommit", "gitTreeState"), "the recorded server was built without a version"
    ),
    "39-services-list": Difference(("clusterIP", "clusterIPs"), "the recorded server chose an address"),
    "42-token-request": Difference(("token",), "a secret, not recorded"),
    "48-pod-realistic": Difference(("remainingItemCount",), "the recorded cluster had 400 pods there"),
    "49-discovery-api": Difference(("serverAddress",), "another address"),
}


class Replay:
    """Sends the recorded requests in order, as the recorded user, after making what each needs."""

    def __init__(self, server):
        self.server = server
        self.tokens = {
            "system:masters": server.admin_token,
            "system:node:node1": server.add_user("system:node:node1"),
            "no rights at all": server.add_user("nobody"),
            "unknown token": None,
        }
        self.admin = Client(server)
        # What recorded requests name of their own server, and what it is on this one.
        self.names = {}
        self.before = {
            1: self.make_pods,
            3: self.know_continue,
            11: self.change_pods,
            38: self.make_node_and_services,
            42: self.make_account,
            43: self.leave_and_enter,
            44: self.make_terminating,
            45: self.make_blanked,
            46: self.make_finished,
            47: self.make_mirror,
            48: self.make_realistic,
            51: self.hasten_bookmarks,
            53: lambda: server.terminate_namespace("going"),
        }
        self.answers = {}

    def run(self):
        with self.admin:
            for name, recording in RECORDINGS.items():
                self.before.get(recording["seq"], lambda: None)()
                self.answers[name] = self.send(recording)

    def send(self, recording):
        request = recording["request"]
        path, body = request["path"], json.dumps(request["body"])
        for recorded, here in self.names.items():
            path, body = path.replace(recorded, here), body.replace(recorded, here)
        with Client(self.server, self.tokens[recording["user"]]) as caller:
            if "stream" in recording["response"]:
                return self.stream(caller, path, recording["response"]["stream"])
            data = None if request["body"] is None else body.encode()
            reply = caller.request(request["method"], path, data, request["headers"])
            return reply.status, reply.headers, reply.body

    def stream(self, caller, path, expected):
        with caller.watch(path) as watch:
            lines = watch.take(len(expected))
            if not expected:
                watch.patience(0.3)
                with pytest.raises(TimeoutError):
                    watch.raw()
            elif "timeoutSeconds" in path or expected[-1]["type"] == "ERROR":
                lines += watch.rest()
            return watch.status, watch.headers, lines

    def make_pod(self, namespace, name, *, node="node-w", spec=None, status=None, **metadata):
        self.server.store.ensure_namespace(namespace)
        url = POD_URL.format(namespace=namespace)
        body = {
            "metadata": {"name": name, **metadata},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}], **(spec or {})},
        }
        assert self.admin.post(url, body).status == 201
        if status:
            assert self.admin.patch(f"{url}/{name}/status", {"status": status}).status == 200

    def make_pods(self):
        def status(*addresses, phase="Running", host="192.168.7.7"):
            ips = [{"ip": ip} for ip in addresses]
            times = {"startTime": "2026-11-22T00:00:00Z"}
            return {"phase": phase, "hostIP": host, "podIP": addresses[0], "podIPs": ips, **times}

        for namespace, name, node, state, spec in (
            ("cases", "server", "node1", status("10.244.1.3", "fd00::3"), {}),
            ("wire2", "server", "node-w", status("10.244.9.3", "fd00:9::3"), {}),
            ("wire2", "client", "node-w2", status("10.244.9.2"), {}),
            ("wire2", "host-agent", "node-w", status("192.168.7.7"), {"hostNetwork": True}),
            ("wire2", "done-job", "node-w", status("10.244.9.4", phase="Succeeded"), {}),
        ):
            self.make_pod(namespace, name, node=node, status=state, spec=spec, labels={"app": name})
        self.names[RECORDED_UID] = self.server.pods.get("server", namespace="wire2")["metadata"]["uid"]
        self.names["43416"] = str(self.server.pods.version)

    def know_continue(self):
        recorded = RECORDINGS["02-pods-list-page-1"]["response"]["body"]["metadata"]["continue"]
        self.names[recorded] = self.answers["02-pods-list-page-1"][2]["metadata"]["continue"]

    def change_pods(self):
        url = POD_URL.format(namespace="wire2")
        self.admin.patch(f"{url}/server", {"metadata": {"labels": {"touched": "1"}}})
        status = {"phase": "Running", "hostIP": "192.168.7.7", "podIP": "10.244.9.8"}
        status |= {"podIPs": [{"ip": "10.244.9.8"}], "startTime": "2026-11-22T00:00:00Z"}
        self.make_pod("wire2", "late", status=status, labels={"app": "late"})
        assert self.admin.delete(f"{url}/late", {"gracePeriodSeconds": 0}).status == 200

    def make_node_and_services(self):
        applied = '{"apiVersion":"v1","kind":"Node","metadata":{"annotations":{},"name":"node1"}}\n'
        annotations = {"kubectl.kubernetes.io/last-applied-configuration": applied}
        self.admin.post("/api/v1/nodes", {"metadata": {"name": "node1", "annotations": annotations}})
        for namespace, name, spec, metadata in (
            (
                "default",
                "kubernetes",
                {
                    "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
                    "clusterIP": "10.96.0.1",
                },
                {"labels": {"component": "apiserver", "provider": "kubernetes"}},
            ),
            (
                "wire2",
                "db",
                {
                    "ports": [{"protocol": "TCP", "port": 5432, "targetPort": 5432}],
                    "selector": {"app": "db"},
                    "clusterIP": "10.96.0.2",
                },
                {},
            ),
        ):
            body = {"metadata": {"name": name, **metadata}, "spec": spec}
            assert self.admin.post(f"/api/v1/namespaces/{namespace}/services", body).status == 201

    def make_account(self):
        self.server.serviceaccounts.put({"metadata": {"name": "kiptail", "namespace": "kube-system"}})

    def leave_and_enter(self):
        self.names["43456"] = str(self.server.store.version)
        for phase in ("Failed", "Running"):
            self.server.pods.patch("server", {"status": {"phase": phase}}, namespace="wire2")

    def make_terminating(self):
        status = {"phase": "Running", "podIP": "10.244.9.20", "podIPs": [{"ip": "10.244.9.20"}]}
        status["startTime"] = "2026-11-22T17:00:00Z"
        self.make_pod("wire2", "leaving", spec={"terminationGracePeriodSeconds": 600}, status=status)
        assert self.admin.delete(POD_URL.format(namespace="wire2") + "/leaving").status == 200

    def make_blanked(self):
        annotations = {"cni.projectcalico.org/podIP": "", "cni.projectcalico.org/podIPs": ""}
        status = {"phase": "Running", "podIP": "10.244.9.21", "podIPs": [{"ip": "10.244.9.21"}]}
        self.make_pod("wire2", "blanked", status=status, annotations=annotations)

    def make_finished(self):
        status = RECORDINGS["46-pod-finished"]["response"]["body"]["status"]
        self.make_pod("wire2", "job-1", spec={"restartPolicy": "Never"}, status=status)

    def make_mirror(self):
        annotations = {f"kubernetes.io/config.{key}": "3f1d2c" for key in ("hash", "mirror")}
        annotations["kubernetes.io/config.source"] = "file"
        self.make_pod("wire2", "etcd-node1", spec={"hostNetwork": True}, annotations=annotations)

    def make_realistic(self):
        [first] = RECORDINGS["48-pod-realistic"]["response"]["body"]["items"]
        self.server.pods.put(first)
        self.server.pods.put({**first, "metadata": {"name": "svc-0-000001", "namespace": "team-0"}})

    def hasten_bookmarks(self):
        self.names["43466"] = str(self.server.store.version)
        self.server.bookmark_period = 0.05


@pytest.fixture(scope="module")
def replay():
    with ApiServer() as running:
        replayed = Replay(running)
        replayed.run()
    return replayed.answers


def comparable(value, ignored):
    """The value without managedFields, and without values that differ on every server (their type stays)."""
    if isinstance(value, dict):
        return {
            key: type(item).__name__ if key in ignored else comparable(item, ignored)
            for key, item in value.items()
            if key != "managedFields"
        }
    return [comparable(item, ignored) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", RECORDINGS)
def test_answers_as_a_real_server_did(name, replay):
    expected = RECORDINGS[name]["response"]
    status, headers, body = replay[name]
    ignored = VARYING | set(DIFFERENCES[name].keys if name in DIFFERENCES else ())
    assert status == expected["status"]
    for header in ("Content-Type", "Retry-After"):
        assert headers.get(header) == expected["headers"].get(header)
    recorded = expected["stream"] if "stream" in expected else expected["body"]
    assert comparable(body, ignored) == comparable(recorded, ignored)


@pytest.mark.parametrize("name", [name for name, one in DIFFERENCES.items() if one.keys == ("message",)])
def test_messages_that_name_versions_have_the_recorded_shape(name, replay):
    def shape(value):
        return re.sub(r"\d+", "N", json.dumps(comparable(value, VARYING)))

    expected = RECORDINGS[name]["response"]
    assert shape(replay[name][2]) == shape(expected.get("stream", expected.get("body")))


def test_the_server_never_reads_the_recordings():
    for path in (Path(__file__).parent / "apiserver").glob("*.py"):
        assert "wire" not in re.sub(r'""".*?"""', "", path.read_text(), flags=re.S), path


# -- lists and pages


def pages(client, path, limit):
    """All answers of a paged list."""
    found, token = [], ""
    while True:
        suffix = f"&continue={token}" if token else ""
        reply = client.get(f"{path}?limit={limit}{suffix}")
        assert reply.status == 200, reply.body
        found.append(reply)
        token = reply.body["metadata"].get("continue")
        if not token:
            return found


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 100])
def test_pages_add_up_to_the_whole_list_in_key_order(client, server, limit):
    # The key is the path in etcd, where "a-b/" comes before "a/".
    for namespace in ("a", "a-b", "b"):
        for name in ("x", "x-1", "y.z"):
            server.pods.put(pod(name, namespace=namespace))
    found = pages(client, "/api/v1/pods", limit)
    keys = [
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for page in found
        for item in page.body["items"]
    ]
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
    rest = client.get(
        f"{POD_URL.format(namespace='team-a')}?limit=9&continue={late.body['metadata']['continue']}"
    )
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


# -- watches

WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


def test_a_watch_without_a_version_begins_with_what_is_there(client, server):
    server.pods.put(pod("old"))
    with client.watch("/api/v1/pods?watch=true") as watch:
        assert watch.short(1) == [("ADDED", "old")]
        server.pods.put(pod("new"))
        server.pods.delete("old", namespace="team-a")
        assert watch.short(2) == [("ADDED", "new"), ("DELETED", "old")]


def test_a_bookmark_promises_no_more_than_was_sent_and_a_watch_can_go_on_from_it(client, server):
    server.bookmark_period = 0.02
    base = "/api/v1/pods?watch=1&allowWatchBookmarks=true&fieldSelector=spec.nodeName=node-1&resourceVersion="
    with client.watch(f"{base}{server.store.version}") as watch:
        last = 0
        for number in range(20):
            server.pods.put(pod(f"other{number}", node="node-2"))
            mine = int(server.pods.put(pod(f"mine{number}"))["metadata"]["resourceVersion"])
            seen = False
            while last < mine:
                line = watch.next()
                last = int(line["object"]["metadata"]["resourceVersion"])
                seen = seen or line["type"] == "ADDED"
            assert seen
        server.compact()
        while line["type"] != "BOOKMARK" or last < server.store.version:
            line = watch.next()
            last = int(line["object"]["metadata"]["resourceVersion"])
    with client.watch(f"{base}{last}") as watch:
        server.pods.put(pod("later"))
        assert ("ADDED", "later") in watch.short(5)


def test_the_history_is_bounded_and_what_is_older_is_gone(client, server):
    server.history = 5
    versions = [server.pods.put(pod(f"p{number}"))["metadata"]["resourceVersion"] for number in range(10)]
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={versions[3]}") as watch:
        [line] = watch.rest()
        assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={versions[4]}") as watch:
        assert watch.short(5) == [("ADDED", f"p{number}") for number in range(5, 10)]
    exact = f"/api/v1/pods?resourceVersionMatch=Exact&resourceVersion={versions[3]}"
    assert client.get(exact).status == 410
    # Another kind's history is its own.
    with client.watch(f"/api/v1/nodes?watch=1&resourceVersion={versions[0]}&timeoutSeconds=1") as watch:
        assert watch.rest() == []


def test_compaction_does_not_disturb_running_watches(client, server):
    version = server.store.version
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={version}") as watch:
        server.compact()
        server.pods.put(pod("web"))
        assert watch.short(1) == [("ADDED", "web")]
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={version}") as watch:
        assert watch.next()["object"]["code"] == 410


def test_a_watch_list_ends_with_its_bookmark_and_goes_on(client, server):
    for number in range(300):
        server.pods.put(pod(f"p{number:03}"))
    with client.watch(f"/api/v1/pods?{WATCH_LIST}") as watch:
        assert watch.short(300) == [("ADDED", f"p{number:03}") for number in range(300)]
        end = watch.next()
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        server.pods.put(pod("new"))
        assert watch.short(1) == [("ADDED", "new")]
    with client.watch(f"/api/v1/services?{WATCH_LIST}") as watch:
        assert watch.next()["type"] == "BOOKMARK"


def test_a_server_without_watch_list_rejects_or_ignores_it(client, server):
    server.pods.put(pod("web"))
    path = f"/api/v1/pods?{WATCH_LIST}"
    server.watch_list = "reject"
    refused = client.get(path)
    assert (refused.status, refused.body["reason"]) == (422, "Invalid")
    assert "sendInitialEvents is forbidden" in refused.body["message"]
    server.watch_list = "ignore"
    with client.watch(path) as watch:
        assert watch.short(1) == [("ADDED", "web")]
        watch.patience(0.2)
        with pytest.raises(TimeoutError):
            watch.raw()
    server.watch_list = "serve"
    assert client.get("/api/v1/pods?watch=1&sendInitialEvents=true").status == 422
    assert client.get("/api/v1/pods?watch=1&resourceVersionMatch=NotOlderThan").status == 422


def test_a_watch_ends_when_its_client_goes_away(client, server):
    with client.watch("/api/v1/pods?watch=1"):
        [watch] = server.wait_for(server.watches)
        assert watch.request.path == "/api/v1/pods"
    server.wait_for(lambda: not server.watches())


def test_a_bookmark_comes_two_seconds_before_the_end(client, server):
    version = server.store.version
    with client.watch(
        f"/api/v1/pods?watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=3"
    ) as watch:
        assert [line["type"] for line in watch.rest()] == ["BOOKMARK"]


def test_watches_see_every_change_in_order_while_many_write(server):
    def write(writer):
        with Client(server) as caller:
            for number in range(30):
                assert caller.post(EVENTS, event(f"e{writer}-{number}")).status == 201
                caller.patch(f"{EVENTS}/e{writer}-{number}", {"count": number + 1})

    server.store.ensure_namespace("team-a")
    with Client(server) as client, client.watch("/api/v1/events?watch=1") as watch:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        lines = watch.take(4 * 60)
        for writer in writers:
            writer.join(10)
    versions = [int(line["object"]["metadata"]["resourceVersion"]) for line in lines]
    assert versions == sorted(set(versions))
    assert [line["type"] for line in lines].count("ADDED") == 120
    assert sorted(item["count"] for item in server.events()) == sorted(list(range(1, 31)) * 4)


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.sampled_from(["node-1", "node-2"])),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("compact"), st.none(), st.none()),
)


# One server serves all examples: each begins by deleting what the one before it left.
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(before=st.lists(STEPS), between=st.lists(STEPS, max_size=4), after=st.lists(STEPS))
def test_a_list_and_the_watch_from_it_add_up_to_the_truth(client, server, before, between, after):
    """Whatever happens, with pages and a selector that objects enter and leave."""
    selector = "fieldSelector=spec.nodeName=node-1"

    def act(steps):
        for step, name, node in steps:
            if step == "compact":
                server.compact()
            elif step == "put":
                server.pods.put(pod(name, node=node))
            elif server.pods.get(name, namespace="team-a"):
                server.pods.delete(name, namespace="team-a")

    server.pods.clear()
    act(before)
    listed = client.get(f"/api/v1/pods?limit=2&{selector}").body
    known = {item["metadata"]["name"]: item for item in listed["items"]}
    act(step for step in between if step[0] != "compact")
    if listed["metadata"].get("continue"):
        rest = client.get(f"/api/v1/pods?{selector}&continue={listed['metadata']['continue']}").body
        known |= {item["metadata"]["name"]: item for item in rest["items"]}
    with client.watch(
        f"/api/v1/pods?watch=1&{selector}&resourceVersion={listed['metadata']['resourceVersion']}"
    ) as watch:
        server.wait_for(server.watches)
        act(after)
        server.pods.put(pod("last"))
        while "last" not in known:
            line = watch.next()
            name = line["object"]["metadata"]["name"]
            assert (name in known) == (line["type"] != "ADDED")
            if line["type"] == "DELETED":
                del known[name]
            else:
                known[name] = line["object"]
    # Else the next example might take this watch for its own.
    server.wait_for(lambda: not server.watches())
    truth = {item["metadata"]["name"]: item for item in server.pods() if item["spec"]["nodeName"] == "node-1"}
    assert {name: item["metadata"] for name, item in known.items()} == {
        name: item["metadata"] for name, item in truth.items()
    }


# -- writes


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
    status = client.patch(f"{url}/status", {"status": {"conditions": conditions, "phase": None}}).body[
        "status"
    ]
    assert [(one["type"], one.get("status")) for one in status["conditions"]] == [
        ("Ready", "True"),
        ("New", None),
    ]
    assert "phase" not in status
    # A patch of the object itself does not reach its status, and a merge patch replaces lists.
    assert client.patch(url, {"status": {"phase": "Failed"}}).body["status"] == status
    replaced = client.patch(f"{url}/status", {"status": {"conditions": [{"type": "X"}]}}, MERGE).body[
        "status"
    ]
    assert [one["type"] for one in replaced["conditions"]] == ["X"]


def test_a_patch_that_changes_nothing_writes_nothing(client, server):
    server.store.ensure_namespace("team-a")
    created = client.post(EVENTS, event("e1", count=3)).body
    assert client.patch(f"{EVENTS}/e1", {"count": 3, "source": {}}).body == created
    assert client.patch(f"{EVENTS}/e1", {"count": 4}).body["metadata"]["resourceVersion"] == str(
        server.store.version
    )


def test_a_replacement_minds_the_version_it_names(client, server):
    server.store.ensure_namespace("team-a")
    created = client.post(EVENTS, event("e1")).body
    assert client.put(f"{EVENTS}/e1", {**created, "count": 2}).body["count"] == 2
    stale = client.put(f"{EVENTS}/e1", {**created, "count": 3})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert (
        client.put(f"{EVENTS}/e1", event("e1", count=4)).body["metadata"]["uid"] == created["metadata"]["uid"]
    )
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
        pytest.param(
            {"involvedObject": {"kind": "Node", "name": "n"}}, 422, ["involvedObject.namespace"], id="node"
        ),
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
    sent = event(
        "e", firstTimestamp="2026-11-22T18:00:00.9+01:00", misspelt=1, source={"component": "k", "x": 1}
    )
    stored = client.post(EVENTS, sent).body
    assert stored["firstTimestamp"] == "2026-11-22T17:00:00Z"
    assert stored["source"] == {"component": "k"}
    assert "misspelt" not in stored
    assert client.patch(f"{EVENTS}/e", {"related": {"kind": "Pod", "name": "b", "foo": 1}}).body[
        "related"
    ] == {
        "kind": "Pod",
        "name": "b",
    }


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


# -- who may do what


def test_rights_can_be_given_and_taken_while_it_runs(server):
    server.store.ensure_namespace("team-a")
    server.store.ensure_namespace("team-b")
    with Client(server, server.add_user("kiptail", "ops")) as caller:
        assert caller.get("/api/v1/pods").status == 403
        server.grant("ops", "list watch", "pods")
        assert caller.get("/api/v1/pods").status == 200
        assert caller.get("/api/v1/namespaces/team-a/pods").status == 200
        assert caller.get("/api/v1/namespaces/team-a/pods/web").status == 403
        server.grant("kiptail", "create", "events", namespace="team-a")
        assert caller.post(EVENTS, event("e")).status == 201
        assert caller.post(EVENTS.replace("team-a", "team-b"), event("e", namespace="team-b")).status == 403
        assert caller.patch(f"{EVENTS}/e", {"count": 2}).status == 403
        server.revoke("ops", "list")
        refused = caller.get("/api/v1/pods")
        assert refused.body["message"].startswith(
            'pods is forbidden: User "kiptail" cannot list resource "pods"'
        )
        server.revoke("kiptail")
        assert caller.post(EVENTS, event("f")).status == 403
        refused = caller.get("/metrics")
        assert refused.body["message"] == 'forbidden: User "kiptail" cannot get path "/metrics"'


def review(caller, **attributes):
    body = {"spec": {"resourceAttributes": attributes}}
    return caller.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body).body["status"]


def test_a_kubelet_reviews_itself_as_it_is_treated(server):
    server.pods.put(pod("mine"))
    server.pods.put(pod("other", node="node-2"))
    only_mine = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["node-1"]}]}
    pods = {"verb": "list", "resource": "pods"}
    get = {"verb": "get", "resource": "pods", "namespace": "team-a"}
    not_mine = {"rawSelector": "spec.nodeName=node-2"}
    with Client(server, server.add_user("system:node:node-1")) as caller:
        for path, attributes, allowed in (
            ("pods", pods, False),
            ("pods?fieldSelector=spec.nodeName=node-1", {**pods, "fieldSelector": only_mine}, True),
            ("pods?fieldSelector=spec.nodeName=node-2", {**pods, "fieldSelector": not_mine}, False),
            ("pods?fieldSelector=status.podIP=10.0.0.1&resourceVersion=0", pods, False),
            ("namespaces/team-a/pods/mine", {**get, "name": "mine"}, True),
            ("namespaces/team-a/pods/other", {**get, "name": "other"}, False),
            ("nodes", {"verb": "list", "resource": "nodes"}, False),
            ("services", {"verb": "list", "resource": "services"}, True),
            ("namespaces", {"verb": "list", "resource": "namespaces"}, False),
            ("events", {"verb": "list", "resource": "events"}, False),
        ):
            assert (caller.get(f"/api/v1/{path}").status == 200) is allowed, path
            status = review(caller, **attributes)
            assert status["allowed"] is allowed, (path, status)
        wrong = caller.get("/api/v1/namespaces/team-a/pods/other").body["message"]
        assert wrong.endswith("no relationship found between node 'node-1' and this object")
        server.grant("system:nodes", "list watch", "pods nodes")
        assert caller.get("/api/v1/pods").names == ["mine", "other"]
        assert review(caller, verb="list", resource="pods")["allowed"]


def test_reviews_need_a_question_and_normalise_it(client):
    url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert client.post(url, {"spec": {}}).status == 400
    paths = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}}
    assert client.post(url, paths).body["status"] == {"allowed": True}


def test_tokens_expire_and_can_be_revoked(server):
    path = "/api/v1/pods"
    for token in (server.add_user("a", lifetime=-1), "unknown"):
        with Client(server, token) as caller:
            assert caller.get(path).body["message"] == "Unauthorized"
    token = server.add_user("b", "system:masters", token="the-token")
    with Client(server, token) as caller:
        assert caller.get(path).status == 200
        server.access.revoke_token("the-token")
        assert caller.get(path).status == 401


def test_who_shows_nothing_is_anonymous(server):
    with Client(server, None) as caller:
        assert caller.get("/version").status == caller.get("/readyz").status == 200
        assert 'User "system:anonymous"' in caller.get("/api/v1/pods").body["message"]
        assert caller.get("/apis").status == 403
        server.access.anonymous = False
        assert caller.get("/version").status == 401


def test_a_service_accounts_token_is_that_account(client, server):
    url = "/api/v1/namespaces/kube-system/serviceaccounts/kiptail/token"
    assert client.post(url, {}).status == 404
    server.serviceaccounts.put({"metadata": {"name": "kiptail", "namespace": "kube-system"}})
    token = client.post(url, {"spec": {"expirationSeconds": 600}}).body["status"]["token"]
    with Client(server, token) as caller:
        reviewed = caller.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).body
    assert reviewed["status"]["userInfo"]["username"] == "system:serviceaccount:kube-system:kiptail"
    assert "system:serviceaccounts" in reviewed["status"]["userInfo"]["groups"]


def test_a_client_certificate_names_user_and_groups(server):
    pair = certificates.authority().client("system:node:node-1", "system:nodes")
    files = (str(pair.certificate), str(pair.key))
    with Client(server, None, certificate=files) as caller:
        reviewed = caller.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).body
        assert caller.get("/api/v1/pods?fieldSelector=spec.nodeName=node-1").status == 200
    assert reviewed["status"]["userInfo"] == {
        "username": "system:node:node-1",
        "groups": ["system:nodes", "system:authenticated"],
    }


def test_a_client_that_trusts_another_ca_does_not_disturb_the_server(client, server):
    context = ssl.create_default_context(cafile=str(certificates.wrong_authority().certificate))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert client.get("/version").status == 200


@pytest.mark.parametrize("ca", ["embedded", "file", "wrong", "insecure", "none"])
def test_kubeconfigs(server, tmp_path, ca):
    path = server.kubeconfig(tmp_path / "config", ca=ca, client=("me", "ops"), namespace="team-a")
    assert path.stat().st_mode & 0o777 == 0o600
    config = json.loads(path.read_text())
    [cluster] = config["clusters"]
    assert cluster["cluster"]["server"] == f"https://127.0.0.1:{server.port}"
    assert config["users"][0]["user"].keys() == {"client-certificate-data", "client-key-data"}
    token_file = server.kubeconfig(tmp_path / "other", token_file="/t")
    assert json.loads(token_file.read_text())["users"][0]["user"] == {"tokenFile": "/t"}


# -- faults


def test_a_status_fault_meets_what_it_matches_as_often_as_said(client, server):
    server.store.ensure_namespace("team-a")
    fault = server.faults.status(429, retry_after=1, method="POST", path=EVENTS, count=2)
    assert client.get(EVENTS).status == 200
    for _ in range(2):
        limited = client.post(EVENTS, event("e"))
        assert (limited.status, limited.headers["Retry-After"], limited.body["reason"]) == (
            429,
            "1",
            "TooManyRequests",
        )
    assert client.post(EVENTS, event("e")).status == 201
    assert fault.hits == 2


def test_a_fault_may_be_plain_text_or_any_body_and_match_anything(client, server):
    with server.faults.status(
        503, text="upstream connect error", match=lambda request: request.verb == "list"
    ):
        broken = client.get("/api/v1/pods")
        assert (broken.status, broken.body) == (503, "upstream connect error")
        assert client.get("/api/v1/nodes/n").status == 404
    with server.faults.status(500, body={"kind": "Odd"}):
        assert client.get("/version").body == {"kind": "Odd"}
    assert client.get("/api/v1/pods").status == 200
    server.faults.status(500)
    server.faults.status(500)
    server.faults.clear()
    assert client.get("/version").status == 200


def test_slow_answers_and_pages(client, server):
    for number in range(2):
        server.pods.put(pod(f"p{number}"))
    slow = server.faults.slow_pages(0.1)
    server.faults.status(500, count=1)
    assert client.get("/api/v1/pods?limit=1").status == 500
    assert client.get("/api/v1/pods").status == 200
    assert slow.hits == 1
    began = time.monotonic()
    assert len(pages(client, "/api/v1/pods", 1)) == 2
    assert time.monotonic() - began >= 0.2


def test_a_hung_request_is_answered_when_released(server):
    with Client(server) as caller:
        fault = server.faults.hang(path="/api/v1/pods")
        assert caller.get("/version").status == 200
        caller.patience(0.3)
        with pytest.raises(TimeoutError):
            caller.get("/api/v1/pods")
        caller.patience(5)
        assert [request.status for request in server.requests(path_prefix="/api/v1/pods")] == [None]
        assert caller.get("/version").status == 200
        fault.release()
        server.wait_for(lambda: server.requests(path_prefix="/api/v1/pods", status=200))
        assert caller.get("/api/v1/pods").status == 200


def test_a_reset_connection_is_reset(server):
    """Seen below TLS: Python 3.11's ssl shows a reset as an end of file."""
    server.faults.reset(count=1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(server.ca_file))
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        while tls.version() is None:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        tls.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: plain.recv(65536), b""))
    with Client(server) as caller:
        assert caller.get("/version").status == 200


def watch_path(server):
    return f"/api/v1/pods?watch=1&resourceVersion={server.store.version}"


def read_cut(watch):
    with pytest.raises(http.client.IncompleteRead):
        watch.rest()
    assert watch.buffered.startswith(b'{"type":"')


def read_reset(watch):
    # Python 3.11's ssl shows a reset as an end of file.
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        watch.raw()


def read_garbage(watch):
    with pytest.raises(json.JSONDecodeError):
        watch.next()


def read_silence(watch):
    watch.patience(0.2)
    with pytest.raises(TimeoutError):
        watch.raw()


def read_end(watch):
    assert watch.rest() == []


def read_gone(watch):
    [line] = watch.rest()
    assert (line["type"], line["object"]["code"]) == ("ERROR", 410)


def read_error(watch):
    [line] = watch.rest()
    assert (line["type"], line["object"]["code"]) == ("ERROR", 500)


DISTURBANCES: dict[str, Callable] = {
    "cut": read_cut,
    "reset": read_reset,
    "garbage": read_garbage,
    "silence": read_silence,
    "end": read_end,
    "gone": read_gone,
    "error": read_error,
}


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_running_watch_is_disturbed(client, server, disturbance):
    with client.watch(watch_path(server)) as watch:
        server.wait_for(server.watches)
        server.pods.put(pod("before"))
        assert watch.short(1) == [("ADDED", "before")]
        assert server.disturb(disturbance, path="/api/v1/pods") == 1
        if disturbance == "silence":
            server.pods.put(pod("unseen"))
        DISTURBANCES[disturbance](watch)
    with client.watch(watch_path(server)) as watch:
        server.pods.put(pod("after"))
        assert watch.short(1) == [("ADDED", "after")]


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_watch_is_disturbed_after_some_lines(client, server, disturbance):
    server.bookmark_period = 0.05
    server.faults.watch(disturbance, after_lines=2, count=1)
    with client.watch(watch_path(server)) as watch:
        for number in range(3):
            server.pods.put(pod(f"p{number}"))
        assert watch.short(2) == [("ADDED", "p0"), ("ADDED", "p1")]
        DISTURBANCES[disturbance](watch)
        if disturbance == "garbage":
            assert watch.short(1) == [("ADDED", "p2")]


def test_a_silent_watch_is_not_ended_by_its_timeout(client, server):
    server.faults.watch("silence")
    with client.watch("/api/v1/pods?watch=1&timeoutSeconds=1") as watch:
        watch.patience(1.3)
        with pytest.raises(TimeoutError):
            watch.raw()


def test_a_frozen_server_answers_nothing_until_it_thaws(server):
    with Client(server) as caller, caller.watch(watch_path(server)) as watch:
        assert caller.get("/version").status == 200
        server.freeze()
        caller.patience(0.2)
        watch.patience(0.2)
        with pytest.raises(TimeoutError):
            caller.get("/version")
        with pytest.raises(TimeoutError), Client(server, timeout=0.2) as other:
            other.get("/version")
        server.pods.put(pod("meanwhile"))
        with pytest.raises(TimeoutError):
            watch.raw()
        server.thaw()
        caller.patience(5)
        server.wait_for(lambda: len(server.requests(path_prefix="/version", status=200)) >= 2)
        assert caller.get("/version").status == 200


def test_stopped_it_refuses_and_started_again_it_goes_on(server):
    port = server.port
    server.pods.put(pod("web"))
    version = server.store.version
    with Client(server) as client, client.watch(watch_path(server)) as watch:
        assert client.get("/version").status == 200
        server.stop()
        with pytest.raises((OSError, http.client.HTTPException)):
            watch.next()
        with pytest.raises((OSError, http.client.HTTPException)):
            client.get("/version")
        with pytest.raises(ConnectionRefusedError):
            client.get("/version")
        server.stop()
        assert server.start().port == port
        assert client.get("/api/v1/pods").names == ["web"]
        with pytest.raises(RuntimeError):
            server.start()
        server.stop()
        server.start(clear=True)
    with Client(server) as client:
        assert client.get("/api/v1/pods").names == []
        assert client.get(f"/api/v1/pods?resourceVersion={version}").status == 504


def test_a_stop_ends_whatever_is_under_way_and_leaves_nothing(tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    certificates.authority()
    before, threads = descriptors(), threading.active_count()
    server = ApiServer().start()
    server.faults.hang(path="/healthz")
    server.faults.delay(60, path="/livez")
    with Client(server) as idle, Client(server) as hung, Client(server) as slow, Client(server) as watching:
        assert idle.get("/version").status == 200
        with watching.watch("/api/v1/pods?watch=1"), socket.create_connection(("127.0.0.1", server.port)):
            for caller, path in ((hung, "/healthz"), (slow, "/livez")):
                caller._send(caller._connection, "GET", path, None, None)
                server.wait_for(lambda path=path: server.requests(path_prefix=path))
            server.freeze()
            began = time.monotonic()
            server.close()
            assert time.monotonic() - began < 5
    assert threading.active_count() == threads
    assert descriptors() == before


def test_the_log_of_requests(client, server):
    server.store.ensure_namespace("team-a")
    client.post(EVENTS, event("e"))
    client.get("/api/v1/pods?limit=1")
    client.get("/api/v1/pods/")
    [posted] = server.requests("POST")
    assert (posted.path, posted.status, posted.user, posted.verb) == (
        EVENTS,
        201,
        "kubernetes-admin",
        "create",
    )
    assert json.loads(posted.body)["reason"] == "PacketDrop"
    assert posted.sent > 100
    assert [request.query for request in server.requests(verb="list", path_prefix="/api/v1/pods")] == [
        {"limit": "1"},
        {},
    ]
    assert server.requests(status=404) == server.requests(user="nobody") == []
    server.log.clear()
    assert server.requests() == []


def test_waiting_gives_the_value_or_fails(server):
    timer = threading.Timer(0.05, server.pods.put, [pod("web")])
    timer.start()
    assert server.wait_for(server.pods)[0]["metadata"]["name"] == "web"
    timer.join(5)
    with pytest.raises(AssertionError, match="no second pod"):
        server.wait_for(lambda: len(server.pods) > 1, timeout=0.05, message="no second pod")


def test_a_kept_alive_post_is_quick(client, server):
    server.store.ensure_namespace("team-a")
    times = []
    for number in range(50):
        began = time.perf_counter()
        client.post(EVENTS, event(f"e{number}"))
        times.append(time.perf_counter() - began)
    assert sorted(times)[25] < 0.02, "Nagle's algorithm and delayed acknowledgements make it 0.04 s"


# -- kubectl, and a process of its own


@pytest.fixture
def kubectl(server, tmp_path):
    """The real kubectl against the server."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl")
    config = server.kubeconfig(tmp_path / "kubeconfig")

    def run(*arguments):
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": str(config)}
        done = subprocess.run(
            [program, "--request-timeout=10s", *arguments],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_kubectl_describes_a_pod_with_its_events(client, server, kubectl):
    uid = server.pods.put(pod("web"))["metadata"]["uid"]
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web", "uid": uid}
    times = {"firstTimestamp": "2026-11-22T18:00:00Z", "lastTimestamp": "2026-11-22T18:05:00Z"}
    message = "Packet dropped when sending traffic to team-b/db (10.0.0.9) on port 5432/TCP"
    body = event("web.1", involvedObject=involved, message=message, count=7, source={"component": "kiptail"})
    assert client.post(EVENTS, {**body, **times}).status == 201
    assert client.post(EVENTS, event("web.2", message="of another pod of that name")).status == 201
    text = kubectl("describe", "pod", "-n", "team-a", "web")
    assert re.search(r"Warning +PacketDrop +\S+ \(x7 over \S+\) +kiptail +" + re.escape(message), text)
    assert "of another pod" not in text
    listed = kubectl("get", "events", "-n", "team-a")
    assert listed.split("\n")[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "pod/web" in listed


def test_kubectl_lists_pods_with_pages_and_as_a_table(server, kubectl):
    for number in range(7):
        server.pods.put(pod(f"p{number}", namespace=f"team-{number % 2}"))
    found = json.loads(kubectl("get", "pods", "-A", "-o", "json", "--chunk-size=3"))
    assert [item["kind"] for item in found["items"]] == ["Pod"] * 7
    assert len([request for request in server.requests(verb="list") if "limit" in request.query]) == 3
    table = kubectl("get", "pods", "-A")
    assert table.split("\n")[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(table.strip().split("\n")) == 8


def test_kubectl_writes(server, kubectl):
    server.pods.put(pod("web"))
    kubectl("label", "pod", "-n", "team-a", "web", "tier=front")
    assert server.pods.get("web", namespace="team-a")["metadata"]["labels"] == {"tier": "front"}
    kubectl("delete", "pod", "-n", "team-a", "web", "--grace-period=0", "--force")
    assert server.pods() == []


def test_it_runs_as_a_process_until_sigterm(tmp_path):
    pods, config, events = tmp_path / "pods.json", tmp_path / "config", tmp_path / "events.json"
    user = tmp_path / "user"
    pods.write_text(json.dumps({"kind": "List", "items": [pod("web")]}, indent=1))
    lines = tmp_path / "pods.jsonl"
    lines.write_text("".join(json.dumps(pod(f"p{number}")) + "\n" for number in range(3)))
    command = [sys.executable, "-W", "error", "-m", "tests.apiserver", "--kubeconfig", config, "--pods", pods]
    command += ["--pods", lines, "--events", events]
    command += ["--user-kubeconfig", "kiptail", user, "--grant", "kiptail", "list", "pods"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline())
            for path in (config, user):
                written = json.loads(path.read_text())
                [cluster], [caller] = written["clusters"], written["users"]
                assert cluster["cluster"]["server"] == f"https://127.0.0.1:{port}"
                ca = ssl.create_default_context(
                    cadata=base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
                )
                connection = http.client.HTTPSConnection("127.0.0.1", port, context=ca, timeout=5)
                connection.request(
                    "GET", "/api/v1/pods", headers={"Authorization": "Bearer " + caller["user"]["token"]}
                )
                with connection.getresponse() as response:
                    assert len(json.load(response)["items"]) == 4
                connection.close()
        finally:
            process.terminate()
            _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, "")
    assert json.loads(events.read_text()) == []
