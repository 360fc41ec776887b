"""From who is at a flow's ends to what the policies say: what is asked of whom, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.explainer import Explainer
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.traits import SharedTraits
from kiptail.policies.asker import Missing
from kiptail.policies.evaluate import Rules
from kiptail.policies.policy import policy_of
from tests.support.fuzzing import cases
from tests.support.pods import pod
from tests.support.policies import OUTSIDE as OUTSIDERS
from tests.support.policies import PORTS, clusters, naive_end, policy
from tests.support.policies import Cluster as RandomCluster

CLIENT, WEB = PodRef("team-a", "client", "uid-client"), PodRef("team-b", "web-0", "uid-web")
ADDRESSES = {CLIENT: "10.0.0.1", WEB: "10.0.0.2"}


def made(ref: PodRef, labels: dict[str, str], port: str = "", node: str = "worker-3") -> Pod:
    obj = pod(ref.name, ADDRESSES[ref], namespace=ref.namespace, labels=labels, uid=ref.uid, node=node)
    if port:
        obj["spec"]["containers"][0]["ports"] = [{"name": port, "containerPort": 8080}]
    found = reduce_pod(obj, traits=SharedTraits())
    assert found is not None
    return found


class Cluster:
    """A client, a web pod, and the policies of both their namespaces."""

    def __init__(self, *policies: Any) -> None:
        self.pods = {CLIENT.uid: made(CLIENT, {"app": "client"}), WEB.uid: made(WEB, {"app": "web"}, "http")}
        self.outsiders = {"192.0.2.7"}
        self.answers: dict[str, Rules | Missing] = {
            name: Rules([policy_of(each) for each in policies if each["metadata"]["namespace"] == name], {})
            for name in ("team-a", "team-b")
        }
        self.known_labels: dict[str, Mapping[str, str] | Missing] = {}
        self.asked: list[str] = []
        self.explainer = Explainer(self, self)

    def pod(self, address: str, uid: str) -> Pod | None:
        found = self.pods.get(uid)
        return found if found is not None and address in found.addresses else None

    def outside(self, address: str, at_us: int) -> bool:
        assert at_us == 7
        return address in self.outsiders

    def rules(self, namespace: str) -> Rules | Missing:
        self.asked.append(namespace)
        return self.answers[namespace]

    def labels(self, namespace: str) -> Mapping[str, str] | Missing:
        self.asked.append(f"labels of {namespace}")
        return self.known_labels[namespace]

    def said(self, src: Endpoint | None = None, dst: Endpoint | None = None, **key: Any) -> Mapping[str, str] | None:
        ends = {"src": src or at(CLIENT), "dst": dst or at(WEB)}
        flow_key = FlowKey(ends["src"].address, ends["dst"].address, "TCP", 8080, None, None, False, "p:", "drop")
        return self.explainer.explain(Tracked(Flow(1, flow_key._replace(**key), 7, 7, 7, 7, 1), 0.0, ends))


def at(ref: PodRef) -> Endpoint:
    return Endpoint(Kind.POD, ADDRESSES[ref], (ref,))


OUTSIDE = Endpoint(Kind.NOBODY, "192.0.2.7", name="db.example.com")
DENY = policy("default-deny", namespace="team-b")
DENIED = {
    "src": ": isolated by NetworkPolicy team-b/default-deny",
    "dst": ": no rule of NetworkPolicy default-deny allows it",
}


def admits(**rule: Any) -> Any:
    return policy("default-deny", namespace="team-b", ingress=[rule])


def test_both_ends_are_told_and_the_policies_of_both_are_asked_for() -> None:
    cluster = Cluster(DENY)
    assert cluster.said() == DENIED
    assert cluster.asked == ["team-a", "team-b"]
    assert cluster.explainer.results == {"denied": 1}


ADMITTED = {
    "by the peer's labels": {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}]},
    "by the destination's named port": {"ports": [{"port": "http"}]},
    "by the peer's address": {"from": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
}


@pytest.mark.parametrize("rule", ADMITTED.values(), ids=ADMITTED)
def test_what_is_admitted_stays_as_it_is(rule: Any) -> None:
    cluster = Cluster(admits(**rule))
    assert cluster.said() == {}
    assert cluster.explainer.results == {"allowed": 1}
    other = rule | {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}
    assert Cluster(admits(**other)).said() == DENIED, "of team-b"


def test_labels_of_a_namespace_are_asked_for_where_they_decide() -> None:
    cluster = Cluster(admits(**{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}))
    cluster.known_labels = {"team-a": Missing.AWAITED}
    assert cluster.said() is None
    cluster.known_labels = {"team-a": {"team": "a"}}
    assert cluster.said() == {}
    cluster.known_labels = {"team-a": {}}
    assert cluster.said() == DENIED
    cluster.known_labels = {"team-a": Missing.REFUSED}
    assert cluster.said() == {}
    assert cluster.explainer.results == {"allowed": 1, "denied": 1, "refused": 1}


@pytest.mark.parametrize(
    ("why", "result"), [(Missing.AWAITED, None), (Missing.UNKNOWN, "unknown"), (Missing.REFUSED, "refused")]
)
def test_policies_that_are_missing(why: Missing, result: str | None) -> None:
    cluster = Cluster(DENY)
    cluster.answers["team-a"] = why
    assert cluster.said() == (None if result is None else {})
    assert cluster.explainer.results == ({result: 1} if result else {})


def test_what_is_not_known_of_pods_and_addresses_is_no_reason() -> None:
    cluster = Cluster(DENY)
    cluster.pods[CLIENT.uid] = cluster.pods[CLIENT.uid]._replace(traits=None)
    assert cluster.said() == {}
    del cluster.pods[CLIENT.uid]
    assert cluster.said() == {}
    assert cluster.said(src=Endpoint(Kind.NOBODY, "10.0.0.9")) == {}, "it may be a pod that cannot be looked up"
    assert cluster.explainer.results == {"unknown": 3}


def test_outsiders_are_matched_by_their_address() -> None:
    cluster = Cluster(DENY)
    assert cluster.said(src=OUTSIDE) == DENIED
    assert cluster.asked == ["team-b"]
    assert Cluster(admits(**{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})).said(src=OUTSIDE) == {}


def test_a_pods_own_node_is_open_to_it_and_other_nodes_are_not() -> None:
    cluster = Cluster(DENY)
    own, other = (Endpoint(Kind.NOBODY, "198.51.100.3", name=f"node/{name}") for name in ("worker-3", "worker-4"))
    assert cluster.said(src=own) == {}
    assert cluster.said(src=other) == DENIED
    assert cluster.explainer.results == {"allowed": 1, "denied": 1}


def test_what_policies_have_no_say_in_is_not_counted() -> None:
    cluster = Cluster(DENY)
    assert cluster.said(reply=True) == {}
    assert cluster.said(dst=Endpoint(Kind.NOBODY, "10.96.0.1", name="service team-b/web")) == {}
    assert (cluster.asked, cluster.explainer.results) == ([], {})


def test_what_has_no_port() -> None:
    cluster = Cluster(admits(ports=[{"port": 8080}]))
    assert cluster.said() == {}
    assert cluster.said(protocol="ICMP", port=None, icmp_type=8, icmp_code=0) == DENIED
    assert cluster.said(port=None) == {}, "of a fragment the port is not known"
    assert cluster.explainer.results == {"allowed": 1, "denied": 1, "unknown": 1}


class Whole:
    """A random cluster as the index and the API server show it."""

    def __init__(self, cluster: RandomCluster) -> None:
        shared = SharedTraits()
        reduced = (reduce_pod(each, traits=shared) for each in cluster.pods)
        self.pods = {each.ref.uid: each for each in reduced if each is not None}
        self.policies = list(map(policy_of, cluster.policies))
        self.namespaces = {each["metadata"]["name"]: each["metadata"]["labels"] for each in cluster.namespaces}

    def pod(self, address: str, uid: str) -> Pod | None:
        return self.pods[uid]

    def outside(self, address: str, at_us: int) -> bool:
        return address in OUTSIDERS

    def rules(self, namespace: str) -> Rules | Missing:
        return Rules([each for each in self.policies if each.namespace == namespace], {})

    def labels(self, namespace: str) -> Mapping[str, str] | Missing:
        return self.namespaces[namespace]


@settings(max_examples=cases(20))
@given(clusters(), st.data())
def test_what_is_said_is_what_a_naive_evaluator_finds(cluster: RandomCluster, data: st.DataObject) -> None:
    """Of all that is kept of pods, and with the labels only that are asked for: random pairs of a random cluster."""
    explainer = Explainer(whole := Whole(cluster), whole)
    pods = [each for each in cluster.pods if not each["spec"].get("hostNetwork")]
    anybody = st.sampled_from([*pods, *OUTSIDERS])
    for _ in range(40):
        source, target = data.draw(anybody), data.draw(anybody)
        pairs = [(a, b) for a in own(source) for b in own(target) if (":" in a) == (":" in b)]
        if not pairs or source == target or (isinstance(source, str) and isinstance(target, str)):
            continue
        pair = data.draw(st.sampled_from(pairs))
        port = data.draw(st.sampled_from(PORTS))
        key = FlowKey(*pair, "TCP", port, None, None, False, "p:", "drop")
        ends = {"src": endpoint(source, pair[0]), "dst": endpoint(target, pair[1])}
        said = explainer.explain(Tracked(Flow(1, key, 7, 7, 7, 7, 1), 0.0, ends))
        assert said is not None
        for end, direction in (("src", "egress"), ("dst", "ingress")):
            found = naive_end(cluster, direction, (source, target), pair, ("TCP", port))
            denied = found is not None and bool(found[0]) and not found[1]
            assert said.get(end, "").startswith(": no rule of ") is denied


def own(end: Any) -> list[str]:
    return [end] if isinstance(end, str) else [each["ip"] for each in end["status"]["podIPs"]]


def endpoint(end: Any, address: str) -> Endpoint:
    if isinstance(end, str):
        return Endpoint(Kind.NOBODY, address)
    metadata = end["metadata"]
    return Endpoint(Kind.POD, address, (PodRef(metadata["namespace"], metadata["name"], metadata["uid"]),))
