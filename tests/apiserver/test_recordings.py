"""The test server answers as the recordings in tests/wire say."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.client import Client
from tests.apiserver.objects import POD_URL

WIRE = Path(__file__).parent.parent / "wire"
RECORDINGS = {path.stem: json.loads(path.read_text()) for path in sorted(WIRE.glob("*.json"))}
# The uid of wire2/server and the resourceVersions of lists, as they were on the recorded server.
RECORDED_UID = "cf4e8c68-d650-40f6-a75d-c5f7344ade55"


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
    own = Path(__file__).parent
    for path in set(own.glob("*.py")) - set(own.glob("test_*.py")):
        assert "wire" not in re.sub(r'""".*?"""', "", path.read_text(), flags=re.S), path
