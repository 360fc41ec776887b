"""What is known of NetworkPolicies, sentence by sentence: what each of them means for a connection."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from kiptail.policies.evaluate import Case, allowed, verdicts
from kiptail.policies.explanation import explain
from tests.support.policies import connection, namespace, objects_of, policy, workload_pod

CLIENT = workload_pod("client", "10.0.0.1", "fd00::1", labels={"app": "client"})
WORKER = workload_pod("worker", "10.0.0.2", labels={"app": "worker", "tier": "back"}, node="node-2")
WEB = workload_pod(
    "web",
    "10.0.0.3",
    "fd00::3",
    namespace="team-b",
    labels={"app": "web"},
    ports=(
        {"name": "http", "containerPort": 8080},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns", "containerPort": 54},
        {"containerPort": 81},
    ),
    init=[
        {"name": "sidecar", "restartPolicy": "Always", "ports": [{"name": "proxy", "containerPort": 15001}]},
        {"name": "init", "ports": [{"name": "setup", "containerPort": 7000}]},
    ],
    host="198.51.100.3",
    node="node-3",
)
OTHER_WEB = workload_pod(
    "other", "10.0.0.5", namespace="team-b", labels={"app": "other"}, ports=({"name": "http", "containerPort": 80},)
)
HOST = workload_pod("host", "198.51.100.9", labels={"app": "client"}, host_network=True, node="node-9")
NEAR = workload_pod("near", "198.51.100.3", labels={"app": "client"}, host_network=True, node="node-3")
PODS = (CLIENT, WORKER, WEB, OTHER_WEB, HOST, NEAR)
NAMESPACES = (namespace("team-a", team="a", stage="test"), namespace("team-b", team="b"))
OUTSIDER = "192.0.2.7"

BY_CLIENT = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}


def web(**spec: Any) -> Any:
    """A policy for ``team-b/web``."""
    return policy("web", namespace="team-b", **{"podSelector": {"matchLabels": {"app": "web"}}, **spec})


def ingress(*rules: Any) -> Any:
    return web(policyTypes=["Ingress"], ingress=list(rules))


def egress(*rules: Any) -> Any:
    """A policy for ``team-a/client``."""
    selector = {"matchLabels": {"app": "client"}}
    return policy("client", podSelector=selector, policyTypes=["Egress"], egress=list(rules))


def expressions(*given: Any) -> Any:
    return {"namespaceSelector": {}, "podSelector": {"matchExpressions": list(given)}}


def expression(key: str, operator: str, *values: str) -> Any:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


class Row(NamedTuple):
    """A sentence, as far as one connection shows it."""

    fact: str
    policies: tuple[Any, ...]
    allowed: bool
    source: str = "team-a/client"
    destination: str = "team-b/web"
    port: str = "80/TCP"


DENY = ingress()
TABLE = (
    # A policy selects pods of its own namespace.
    Row("nothing selects it", (), True),
    Row("of its own namespace", (policy("deny", namespace="team-b", policyTypes=["Ingress"]),), False),
    Row("of no other namespace", (policy("deny", namespace="team-a", policyTypes=["Ingress"]),), True),
    Row("by labels", (web(policyTypes=["Ingress"], podSelector={"matchLabels": {"app": "db"}}),), True),
    # policyTypes.
    Row("policyTypes unset: ingress", (web(),), False),
    Row("policyTypes unset: no egress without rules", (policy("p", egress=[]),), True),
    Row("policyTypes unset: egress with rules", (policy("p", egress=[{"to": [BY_CLIENT]}]),), False),
    Row("policyTypes empty is unset", (web(policyTypes=[]),), False),
    Row("Egress alone: ingress has no effect", (web(policyTypes=["Egress"], ingress=[]),), True),
    Row(
        "Ingress alone: egress has no effect",
        (policy("p", policyTypes=["Ingress"], egress=[{"to": [BY_CLIENT]}]),),
        True,
    ),
    # OR-ed, nothing denies, both ends.
    Row("policies are OR-ed", (policy("deny", namespace="team-b"), ingress({})), True),
    Row("rules are OR-ed", (ingress({"ports": [{"port": 81}]}, {"from": [BY_CLIENT]}),), True),
    Row("egress of the source as well", (ingress({}), egress()), False),
    Row("both ends admit", (ingress({}), egress({})), True),
    Row("the destination's egress is not asked", (web(policyTypes=["Egress"]),), True),
    Row("an outsider has no say: from it", (ingress({}),), True, OUTSIDER),
    Row("an outsider has no say: to it", (egress({}),), True, "team-a/client", OUTSIDER),
    Row("two outsiders", (policy("deny"),), True, OUTSIDER, "192.0.2.8"),
    # Rules.
    Row("from missing: every peer", (ingress({"ports": [{"port": 80}]}),), True, OUTSIDER),
    Row("from empty: every peer", (ingress({"from": [], "ports": [{"port": 80}]}),), True, OUTSIDER),
    Row("ports missing: every port", (ingress({"from": [BY_CLIENT]}),), True, port="9/SCTP"),
    Row("ports empty: every port", (ingress({"from": [BY_CLIENT], "ports": []}),), True, port="9/SCTP"),
    Row("{} admits everything", (ingress({}),), True),
    Row("ingress [] admits nothing", (DENY,), False),
    Row("null for a rule is {}", (ingress(None),), True),
    Row("peers are OR-ed", (ingress({"from": [{"ipBlock": {"cidr": "10.9.0.0/16"}}, BY_CLIENT]}),), True),
    Row("ports are OR-ed", (ingress({"ports": [{"port": 81}, {"port": 80}]}),), True),
    Row("peer and port both: the port", (ingress({"from": [BY_CLIENT], "ports": [{"port": 81}]}),), False),
    Row(
        "peer and port both: the peer",
        (ingress({"from": [BY_CLIENT], "ports": [{"port": 80}]}),),
        False,
        "team-a/worker",
    ),
    # Peers.
    Row("podSelector alone: the policy's namespace", (ingress({"from": [{"podSelector": {}}]}),), False),
    Row("podSelector alone: of it", (ingress({"from": [{"podSelector": {}}]}),), True, "team-b/other"),
    Row("namespaceSelector alone", (ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}),), True),
    Row("of another", (ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "c"}}}]}),), False),
    Row("both: AND", (ingress({"from": [BY_CLIENT]}),), False, "team-a/worker"),
    Row("{} selects all namespaces", (ingress({"from": [{"namespaceSelector": {}}]}),), True, "team-a/worker"),
    Row("{} selects no outsider", (ingress({"from": [{"namespaceSelector": {}}]}),), False, OUTSIDER),
    Row("ipBlock: an outsider", (ingress({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}),), True, OUTSIDER),
    Row("ipBlock: pods as well", (ingress({"from": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}),), True, "team-a/worker"),
    Row("ipBlock: with bits of a host", (ingress({"from": [{"ipBlock": {"cidr": "192.0.2.9/24"}}]}),), True, OUTSIDER),
    Row(
        "ipBlock: without except",
        (ingress({"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/29"]}}]}),),
        False,
        OUTSIDER,
    ),
    Row(
        "ipBlock: beside except",
        (ingress({"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}]}),),
        True,
        OUTSIDER,
    ),
    Row(
        "ipBlock: IPv6", (ingress({"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}),), True, "2001:db8::7", "fd00::3"
    ),
    Row(
        "ipBlock: IPv6 without except",
        (ingress({"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8::/64"]}}]}),),
        False,
        "2001:db8::7",
    ),
    Row(
        "ipBlock: its own family only", (ingress({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),), False, "2001:db8::7"
    ),
    Row("by name, any family may admit", (ingress({"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}),), True),
    Row(
        "by name, only a common family",
        (ingress({"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}),),
        False,
        "team-a/worker",
    ),
    Row("no family in common", (), False, OUTSIDER, "2001:db8::7"),
    # Ports.
    Row("protocol defaults to TCP", (ingress({"ports": [{"port": 80}]}),), False, port="80/UDP"),
    Row("no port: all of the protocol", (ingress({"ports": [{"protocol": "UDP"}]}),), True, port="9/UDP"),
    Row("no port: no other protocol", (ingress({"ports": [{"protocol": "UDP"}]}),), False, port="9/TCP"),
    Row("null for a port is TCP", (ingress({"ports": [None]}),), True, port="9/TCP"),
    Row("SCTP", (ingress({"ports": [{"protocol": "SCTP", "port": 80}]}),), True, port="80/SCTP"),
    Row("a name is the destination's", (ingress({"ports": [{"port": "http"}]}),), True, port="8080/TCP"),
    Row("and not another number", (ingress({"ports": [{"port": "http"}]}),), False, port="80/TCP"),
    Row(
        "different pods map it differently",
        (policy("p", namespace="team-b", ingress=[{"ports": [{"port": "http"}]}]),),
        True,
        destination="team-b/other",
        port="80/TCP",
    ),
    Row("a name with its protocol", (ingress({"ports": [{"port": "dns", "protocol": "UDP"}]}),), True, port="53/UDP"),
    Row("a name of another protocol", (ingress({"ports": [{"port": "dns"}]}),), False, port="53/TCP"),
    Row("at egress, too, it is the destination's", (egress({"ports": [{"port": "http"}]}),), True, port="8080/TCP"),
    Row(
        "an outsider has no names",
        (egress({"ports": [{"port": "http"}]}),),
        False,
        "team-a/client",
        OUTSIDER,
        "8080/TCP",
    ),
    Row("init containers' ports do not count", (ingress({"ports": [{"port": "setup"}]}),), False, port="7000/TCP"),
    Row("those of restartable ones do", (ingress({"ports": [{"port": "proxy"}]}),), True, port="15001/TCP"),
    Row("endPort: the last", (ingress({"ports": [{"port": 70, "endPort": 80}]}),), True),
    Row("endPort: behind it", (ingress({"ports": [{"port": 70, "endPort": 79}]}),), False),
    Row("endPort: before the first", (ingress({"ports": [{"port": 81, "endPort": 90}]}),), False),
    Row("ICMP: not by ports", (ingress({"ports": [{"port": 80}, {"protocol": "UDP"}]}),), False, port=""),
    Row("ICMP: by rules without", (ingress({"from": [BY_CLIENT]}),), True, port=""),
    # Label selectors.
    Row(
        "matchLabels and matchExpressions: AND",
        (
            ingress(
                {
                    "from": [
                        {
                            "namespaceSelector": {},
                            "podSelector": {
                                "matchLabels": {"app": "worker"},
                                "matchExpressions": [expression("tier", "In", "front")],
                            },
                        }
                    ]
                }
            ),
        ),
        False,
        "team-a/worker",
    ),
    Row("In", (ingress({"from": [expressions(expression("app", "In", "x", "client"))]}),), True),
    Row("In: the key is missing", (ingress({"from": [expressions(expression("tier", "In", "x"))]}),), False),
    Row("NotIn", (ingress({"from": [expressions(expression("app", "NotIn", "client"))]}),), False),
    Row("NotIn: the key is missing", (ingress({"from": [expressions(expression("tier", "NotIn", "x"))]}),), True),
    Row("Exists", (ingress({"from": [expressions(expression("tier", "Exists"))]}),), False),
    Row("DoesNotExist", (ingress({"from": [expressions(expression("app", "DoesNotExist"))]}),), False),
    Row("DoesNotExist: the key is missing", (ingress({"from": [expressions(expression("x", "DoesNotExist"))]}),), True),
    Row(
        "every namespace has its name for a label",
        (ingress({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}]}),),
        True,
    ),
    # The host's network, the pod's own node, itself.
    Row("no policy selects a pod of the host's network", (policy("deny"),), True, "team-b/web", "team-a/host"),
    Row("nor is it a peer by selectors", (ingress({"from": [{"namespaceSelector": {}}]}),), False, "team-a/host"),
    Row(
        "but by the node's address",
        (ingress({"from": [{"ipBlock": {"cidr": "198.51.100.9/32"}}]}),),
        True,
        "team-a/host",
    ),
    Row("a pod's own node reaches it", (DENY,), True, "198.51.100.3"),
    Row("also as a pod of its network", (DENY,), True, "team-a/near"),
    Row(
        "and is reached",
        (policy("deny", namespace="team-b", policyTypes=["Egress"]),),
        True,
        "team-b/web",
        "198.51.100.3",
    ),
    Row("another node does not", (DENY,), False, "198.51.100.9"),
    Row("a pod to itself", (policy("d", namespace="team-b", policyTypes=["Ingress", "Egress"]),), True, "team-b/web"),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fact)
def test_a_connection_is_allowed_as_the_facts_say(row: Row) -> None:
    objects = objects_of(*NAMESPACES, *PODS, *row.policies)
    asked = connection(objects, row.source, row.destination, row.port)
    assert allowed(asked, objects.rules()) is row.allowed
    answer = explain(asked, objects)
    assert answer.allowed is row.allowed
    # What is denied can be let through, but where no connection is possible at all.
    assert bool(answer.suggestion.manifests) is (not row.allowed and bool(asked.families()))


def test_an_end_that_is_no_pod_has_no_entry() -> None:
    objects = objects_of(*NAMESPACES, *PODS, DENY)
    asked = connection(objects, OUTSIDER, "team-b/web")
    assert [verdict.direction for verdict in verdicts(Case(asked, objects.rules(), 4))] == ["ingress"]
    assert explain(connection(objects, OUTSIDER, "192.0.2.8"), objects).ends == []


def test_a_namespace_that_is_not_known_still_has_its_name_for_a_label() -> None:
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}
    objects = objects_of(*PODS, ingress({"from": [selector]}))
    assert allowed(connection(objects, "team-a/client", "team-b/web"), objects.rules())


def test_finished_pods_have_no_traffic() -> None:
    """So an address is not theirs any more; asked by name, the answer says so."""
    job = workload_pod("job", "10.0.0.9", phase="Succeeded")
    objects = objects_of(*NAMESPACES, *PODS, job)
    address = connection(objects, "10.0.0.9", "team-b/web").source.address  # type: ignore[union-attr]
    assert objects.pods_at(address) == []
    assert any(
        "has finished" in note for note in explain(connection(objects, "team-a/job", "team-b/web"), objects).notes
    )
    assert any("has finished" in note for note in explain(connection(objects, "10.0.0.9", "team-b/web"), objects).notes)


def test_a_pod_that_is_being_deleted_keeps_its_address() -> None:
    leaving = workload_pod("leaving", "10.0.0.9")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    objects = objects_of(leaving)
    (pod,) = objects.pods.values()
    assert objects.pods_at(pod.addresses[0]) == [pod]


def test_a_services_address_is_before_translation() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "team-b"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"]},
    }
    objects = objects_of(*NAMESPACES, *PODS, service, egress())
    for address in ("10.96.0.10", "fd00:96::10"):
        answer = explain(connection(objects, "team-a/client", address), objects)
        assert any("is service team-b/web: policies see" in note for note in answer.notes)
        assert not answer.allowed
        assert not answer.suggestion.manifests


def test_an_answer_that_allows_says_that_it_is_about_now() -> None:
    objects = objects_of(*NAMESPACES, *PODS)
    assert any(
        "as they are now" in note for note in explain(connection(objects, "team-a/client", "team-b/web"), objects).notes
    )
