"""Events that say which NetworkPolicies are in the way: kiptail as a process, and a server that counts requests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from kiptail.admin.manifests import dedicated
from tests.apiserver import ApiServer, Request
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.policies import policy
from tests.support.running import Kiptail, run_kiptail

pytestmark = pytest.mark.timeout(120)

SUBJECT = "system:serviceaccount:kube-system:kiptail"
CLIENT, WEB = "10.244.1.9", "10.244.1.3"
SENT = "Packet dropped when sending traffic to team-b/web-0 (10.244.1.3) on port 8080/TCP (http)"
RECEIVED = "Packet dropped when receiving traffic from team-a/client (10.244.1.9) on port 8080/TCP (http)"
#: Ingress of a web pod from other namespaces, by one of their labels.
FROM_CLIENTS = [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [{"port": "http"}]}]


class Cluster:
    """A client and a web pod, and a journal."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.journal = directory / "journal"
        server.apply(dedicated())
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig", token=server.add_user(SUBJECT))
        server.pods.put(pod("client", CLIENT, labels={"app": "client"}))
        server.pods.put(self.web({"app": "web"}))
        self.write()

    def web(self, labels: dict[str, str]) -> dict[str, Any]:
        made = pod("web-0", WEB, namespace="team-b", labels=labels, node="worker-4", host="198.51.100.4")
        made["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
        return made

    def write(self, *flows: tuple[str, str, int], prefix: str = "calico-drop:") -> None:
        now = time.time_ns() // 1000
        lines = [
            f"{prefix} IN=a OUT=b SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000"
            f" DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
            for src, dst, port in flows
        ]
        entries = (kernel_entry(line, realtime_us=now + n, monotonic_us=now + n) for n, line in enumerate(lines))
        export_to_journal(entries, self.journal / "system.journal")

    def arguments(self, *more: object, prefix: str = "calico-drop:") -> tuple[object, ...]:
        return (
            "--kubeconfig", self.kubeconfig, "--journal-directory", self.journal,
            "--state-directory", self.directory / "state", "--metrics-address", "off",
            "--prefix", prefix, "--node-name", "worker-3", *more,
        )  # fmt: skip

    def kiptail(self, *more: object, module: str = "kiptail", prefix: str = "calico-drop:") -> Kiptail:
        return Kiptail(self.directory, *self.arguments(*more, prefix=prefix), module=module)

    def texts(self) -> set[str]:
        return {event["message"] for event in self.server.events()}

    def asked(self, resource: str) -> list[Request]:
        return [request for request in self.server.requests("GET") if is_of(request, resource)]


def is_of(request: Request, resource: str) -> bool:
    if resource == "namespaces":
        return request.path.startswith("/api/v1/namespaces/") and request.path.count("/") == 4
    return request.path.endswith(f"/{resource}")


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return Cluster(server, tmp_path)


def deny(cluster: Cluster, **more: Any) -> None:
    cluster.server.network_policies.put(policy("default-deny", namespace="team-b", policyTypes=["Ingress"], **more))


@pytest.mark.parametrize("index", ["node", "cluster"])
def test_both_events_name_the_policy_with_the_first_write(cluster: Cluster, index: str) -> None:
    deny(cluster, ingress=FROM_CLIENTS)
    with cluster.kiptail("--pod-index", index) as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: len(cluster.server.events()) == 2, "two Events")
        assert cluster.texts() == {
            f"{SENT}: isolated by NetworkPolicy team-b/default-deny",
            f"{RECEIVED}: no rule of NetworkPolicy default-deny allows it",
        }
        assert cluster.server.requests("PATCH") == [], "it was known in time"
        assert len(cluster.asked("networkpolicies")) == 2
        # Whether they opted out of Events; labels of one decide besides, and came with that.
        asked = sorted(request.path for request in cluster.asked("namespaces"))
        assert asked == ["/api/v1/namespaces/team-a", "/api/v1/namespaces/team-b"]
        assert {r.query["resourceVersion"] for r in cluster.asked("networkpolicies")} == {"0"}


@pytest.mark.parametrize("index", ["node", "cluster"])
def test_what_labels_and_named_ports_admit_stays_as_it_is(cluster: Cluster, index: str) -> None:
    """The policy asks for all that is kept of pods: labels of the pod and its namespace, and a port's name."""
    cluster.server.namespaces.put({"metadata": {"name": "team-a", "labels": {"team": "a"}}})
    deny(cluster, ingress=FROM_CLIENTS)
    with cluster.kiptail("--pod-index", index) as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: cluster.texts() == {SENT, RECEIVED}, "nothing of policies")
        cluster.write((CLIENT, WEB, 8081))
        other = f"{RECEIVED.replace('8080/TCP (http)', '8081/TCP')}: no rule of NetworkPolicy default-deny allows it"
        kiptail.wait_for(lambda: other in cluster.texts(), "another port is not admitted")


def test_a_policy_that_is_gone_is_not_named_by_the_next_flow(cluster: Cluster) -> None:
    deny(cluster)
    with cluster.kiptail(module="tests.support.short_memory") as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: len(cluster.server.events()) == 2, "two Events")
        before = cluster.texts()
        assert f"{RECEIVED}: no rule of NetworkPolicy default-deny allows it" in before
        cluster.server.network_policies.delete("default-deny", namespace="team-b")
        time.sleep(1.1)
        cluster.write((CLIENT, WEB, 8080), (CLIENT, WEB, 8081))
        kiptail.wait_for(lambda: len(cluster.server.events()) == 4, "four Events")
        assert cluster.texts() == before | {
            SENT.replace("8080/TCP (http)", "8081/TCP"),
            RECEIVED.replace("8080/TCP (http)", "8081/TCP"),
        }


def test_an_explanation_that_comes_late_is_patched(cluster: Cluster) -> None:
    deny(cluster)
    with cluster.server.faults.delay(4.0, path="/apis/networking.k8s.io"), cluster.kiptail() as kiptail:
        began = time.monotonic()
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: cluster.texts() == {SENT, RECEIVED}, "Events that say nothing of policies")
        assert 1.5 < time.monotonic() - began < 3.9
        explained = {
            f"{SENT}: isolated by NetworkPolicy team-b/default-deny",
            f"{RECEIVED}: no rule of NetworkPolicy default-deny allows it",
        }
        kiptail.wait_for(lambda: cluster.texts() == explained, "the explanation")
        assert len(cluster.server.events()) == 2


def test_without_the_right_there_is_a_line_and_nothing_else_changes(cluster: Cluster) -> None:
    deny(cluster)
    cluster.server.revoke(SUBJECT, "list", "networkpolicies")
    with cluster.kiptail() as kiptail:
        for port in range(8080, 8090):
            cluster.write((CLIENT, WEB, port))
        kiptail.wait_for(lambda: len(cluster.server.events()) == 20, "all Events")
        assert not any("NetworkPolic" in text for text in cluster.texts())
        said = [line for line in kiptail.log.splitlines() if "NetworkPolicies" in line]
        assert len(said) == 1
        assert "Events do not say which NetworkPolicies are in the way" in said[0]
        assert "`kiptail manifests | kubectl apply -f -` grants it" in said[0]
        assert len(cluster.asked("networkpolicies")) <= 2


def test_it_can_be_switched_off(cluster: Cluster) -> None:
    deny(cluster)
    with cluster.kiptail("--explain", "off") as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: cluster.texts() == {SENT, RECEIVED}, "Events")
        assert cluster.asked("networkpolicies") == []


def test_the_policy_that_the_prefix_names_is_not_second_guessed(cluster: Cluster) -> None:
    deny(cluster)
    with cluster.kiptail(prefix="policy {policy}:") as kiptail:
        cluster.write((CLIENT, WEB, 8080), prefix="policy team-b/other:")
        kiptail.wait_for(lambda: len(cluster.server.events()) == 2, "two Events")
        assert cluster.texts() == {f"{SENT}, by policy team-b/other", f"{RECEIVED}, by policy team-b/other"}
        assert cluster.asked("networkpolicies") == []


@pytest.mark.parametrize("refused", [False, True], ids=["with the right", "without"])
def test_a_restart_does_not_take_back_what_was_said(cluster: Cluster, refused: bool) -> None:
    deny(cluster)
    with cluster.kiptail() as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: len(cluster.server.events()) == 2, "two Events")
    before = cluster.texts()
    assert any("allows it" in text for text in before)
    if refused:
        cluster.server.revoke(SUBJECT, "list", "networkpolicies")
    else:
        cluster.server.network_policies.delete("default-deny", namespace="team-b")
    with cluster.kiptail("--repeat-interval", "1s") as kiptail:
        cluster.write((CLIENT, WEB, 8080))
        kiptail.wait_for(lambda: [event["count"] for event in cluster.server.events()] == [2, 2], "the next packet")
        assert cluster.texts() == before
    written = {json.loads(r.body)["message"] for r in cluster.server.requests("PATCH", "/api/v1/namespaces/team-")}
    assert written == before, "not even for a moment"


def test_a_dry_run_explains_as_well(cluster: Cluster) -> None:
    deny(cluster)
    cluster.write((CLIENT, WEB, 8080))
    done = run_kiptail(*cluster.arguments("--dry-run", "--no-follow", "--output", "json"))
    assert done.returncode == 0, done.stderr
    printed = {json.loads(line)["event"]["message"] for line in done.stdout.splitlines()}
    assert printed == {
        f"{SENT}: isolated by NetworkPolicy team-b/default-deny",
        f"{RECEIVED}: no rule of NetworkPolicy default-deny allows it",
    }


def test_a_thousand_flows_cost_a_question_for_each_namespace(cluster: Cluster) -> None:
    """200 pods in 20 namespaces: at most 20 lists of policies, and 20 reads of labels, a minute."""
    flows = []
    for number in range(200):
        space, source, target = f"ns-{number % 20}", f"10.244.2.{number}", f"10.244.3.{number}"
        for address in (source, target):
            made = pod(f"p{address.replace('.', '-')}", address, namespace=space, labels={"app": f"a{number}"})
            cluster.server.pods.put(made)
        flows += [(source, f"10.244.3.{(number + 1) % 200}", port) for port in range(8000, 8005)]
    for number in range(20):
        ingress = [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}]
        made = policy("default-deny", namespace=f"ns-{number}", policyTypes=["Ingress"], ingress=ingress)
        cluster.server.network_policies.put(made)
    with cluster.kiptail() as kiptail:
        cluster.write(*flows)
        kiptail.wait_for(lambda: len(cluster.server.events()) == 2_000, "all Events", timeout=60)
        kiptail.wait_for(lambda: all("NetworkPolicy" in text for text in cluster.texts()), "all explained", timeout=20)
        assert len(cluster.asked("networkpolicies")) <= 20
        assert len(cluster.asked("namespaces")) <= 20
