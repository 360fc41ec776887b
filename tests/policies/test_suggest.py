"""What would let a connection through: which rule, in which policy, and what it opens besides."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.explanation import explain
from kiptail.policies.suggest import Suggestion
from tests.support.policies import connection, namespace, objects_of, policy, workload_pod

CLIENT = workload_pod("client", "10.0.0.1", labels={"app": "client"})
WORKER = workload_pod("worker", "10.0.0.2", labels={"app": "worker"})
WEB = workload_pod("web-0", "10.0.0.3", namespace="team-b", labels={"app": "web"}, owner="StatefulSet/web")
WEB_1 = workload_pod("web-1", "10.0.0.4", namespace="team-b", labels={"app": "web"}, owner="StatefulSet/web")
DB = workload_pod("db", "10.0.0.5", namespace="team-b", labels={"app": "db"})
DENY = policy("default-deny", namespace="team-b", policyTypes=["Ingress", "Egress"])
DENY_A = policy("default-deny", policyTypes=["Ingress", "Egress"])


def suggestion(
    *objects: Any, source: str = "team-a/client", to: str = "team-b/web-0", port: str = "8080/TCP"
) -> Suggestion:
    given = objects_of(namespace("team-a"), namespace("team-b"), *objects)
    answer = explain(connection(given, source, to, port), given)
    assert not answer.allowed
    return answer.suggestion


def own(name: str, direction: str, selector: Any, rule: Any, where: str = "team-b") -> Any:
    spec = {"podSelector": selector, "policyTypes": [direction.capitalize()], direction: [rule]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": where},
        "spec": spec,
    }


BY_CLIENT = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}},
    "podSelector": {"matchLabels": {"app": "client"}},
}
PORT = [{"protocol": "TCP", "port": 8080}]
IS_WEB = {"matchLabels": {"app": "web"}}


def test_a_policy_of_its_own_where_those_that_isolate_are_for_others_as_well() -> None:
    made = suggestion(CLIENT, WORKER, WEB, WEB_1, DB, DENY)
    assert made.manifests == [own("web-from-client-8080", "ingress", IS_WEB, {"from": [BY_CLIENT], "ports": PORT})]
    assert made.comments == [["Opens 8080/TCP to web from pods of team-a with app=client"]]
    assert made.notes == []


def test_a_rule_in_the_policy_that_is_the_workloads_own() -> None:
    """With all that it has already, and without what the API server and kubectl add."""
    there = policy("web", namespace="team-b", podSelector=IS_WEB, ingress=[{"ports": [{"port": "http"}]}])
    there["metadata"] |= {
        "labels": {"team": "b"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        "resourceVersion": "7",
        "managedFields": [],
    }
    there["status"] = {}
    made = suggestion(CLIENT, WEB, WEB_1, DB, DENY, there)
    (manifest,) = made.manifests
    assert manifest["metadata"] == {
        "name": "web",
        "namespace": "team-b",
        "labels": {"team": "b"},
        "annotations": {"a": "b"},
    }
    assert manifest["spec"] == {
        "podSelector": IS_WEB,
        "ingress": [{"ports": [{"port": "http"}]}, {"from": [BY_CLIENT], "ports": PORT}],
    }
    assert "status" not in manifest
    assert made.comments == [
        ["Adds ingress rule 1 to NetworkPolicy team-b/web: opens 8080/TCP to web from pods of team-a with app=client"]
    ]
    assert there["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]


def test_both_ends_where_both_deny() -> None:
    made = suggestion(CLIENT, WEB, DENY, DENY_A)
    to_web = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-b"}},
        "podSelector": IS_WEB,
    }
    assert made.manifests == [
        own(
            "client-to-web-8080",
            "egress",
            {"matchLabels": {"app": "client"}},
            {"to": [to_web], "ports": PORT},
            "team-a",
        ),
        own("web-from-client-8080", "ingress", IS_WEB, {"from": [BY_CLIENT], "ports": PORT}),
    ]


def test_one_policy_gets_the_rules_of_both_ends() -> None:
    """Two pods of one workload, whose policy isolates them in both directions."""
    mesh = policy("web", namespace="team-b", podSelector=IS_WEB, policyTypes=["Ingress", "Egress"])
    made = suggestion(WEB, WEB_1, mesh, source="team-b/web-0", to="team-b/web-1")
    (manifest,) = made.manifests
    peer = {"podSelector": IS_WEB}
    assert manifest["spec"]["ingress"] == [{"from": [peer], "ports": PORT}]
    assert manifest["spec"]["egress"] == [{"to": [peer], "ports": PORT}]
    assert len(made.comments[0]) == 2


@pytest.mark.parametrize(("address", "cidr"), [("192.0.2.7", "192.0.2.7/32"), ("2001:db8::7", "2001:db8::7/128")])
def test_an_outsider_by_its_address_alone(address: str, cidr: str) -> None:
    web = workload_pod("web-0", "10.0.0.3", "fd00::3", namespace="team-b", labels={"app": "web"})
    made = suggestion(web, DENY, source=address)
    assert made.manifests[0]["spec"]["ingress"] == [{"from": [{"ipBlock": {"cidr": cidr}}], "ports": PORT}]
    made = suggestion(web, DENY, source="team-b/web-0", to=address, port="53/UDP")
    assert made.manifests[0]["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"protocol": "UDP", "port": 53}]}
    ]
    assert made.manifests[0]["metadata"]["name"].endswith("-53-udp")


def test_icmp_takes_all_ports_and_that_is_said() -> None:
    made = suggestion(CLIENT, WEB, DENY, port="")
    assert made.manifests[0]["spec"]["ingress"] == [{"from": [BY_CLIENT]}]
    assert "opens all of them" in made.notes[0]


def test_names_that_are_taken_are_not_taken_again() -> None:
    taken = policy("web-from-client-8080", namespace="team-b")
    made = suggestion(CLIENT, WEB, DB, DENY, taken)
    assert made.manifests[0]["metadata"]["name"] == "web-from-client-8080-2"


def test_what_else_opens_is_named() -> None:
    twin = workload_pod("twin", "10.0.0.8", labels={"app": "client"})
    made = suggestion(CLIENT, twin, WEB, DB, DENY)
    assert made.notes == ["this also opens team-a/twin → team-b/web-0: labels do not tell them apart"]


def test_a_replica_is_no_other_workload() -> None:
    clients = [
        workload_pod(
            f"client-{n}",
            f"10.0.1.{n}",
            labels={"app": "client", "pod-template-hash": "5d8"},
            owner="ReplicaSet/client-5d8",
        )
        for n in (1, 2)
    ]
    assert suggestion(*clients, WEB, DENY, source="team-a/client-1").notes == []


def test_who_would_be_isolated_is_told_from_it_or_named() -> None:
    """A new policy isolates whom it selects: not those that nothing selects now."""
    only = policy("one", namespace="team-b", podSelector={"matchLabels": {"v": "2"}})
    new = workload_pod("new", "10.0.0.6", namespace="team-b", labels={"app": "web", "v": "2"}, owner="ReplicaSet/web")
    old = workload_pod("old", "10.0.0.7", namespace="team-b", labels={"app": "web", "v": "1"}, owner="ReplicaSet/web")
    odd = workload_pod("odd", "10.0.0.9", namespace="team-b", labels={"app": "odd", "v": "2"})
    made = suggestion(CLIENT, new, old, odd, only, to="team-b/new")
    assert made.manifests[0]["spec"]["podSelector"] == {"matchLabels": {"app": "web", "v": "2"}}
    assert made.notes == []
    # By a label that changes with each version, which no rule should name.
    only = policy("one", namespace="team-b", podSelector={"matchLabels": {"pod-template-hash": "2"}})
    for pod, template in ((new, "2"), (old, "1"), (odd, "2")):
        pod["metadata"]["labels"] = {"app": pod["metadata"]["labels"]["app"], "pod-template-hash": template}
    made = suggestion(CLIENT, new, old, odd, only, to="team-b/new")
    assert any("isolates team-b/old for ingress as well" in note for note in made.notes)


def test_a_pod_without_labels_stands_for_its_namespace_and_that_is_said() -> None:
    bare = workload_pod("bare", "10.0.0.6", namespace="team-b", labels={"pod-template-hash": "x"})
    made = suggestion(CLIENT, bare, DENY, to="team-b/bare")
    assert made.manifests[0]["spec"]["podSelector"] == {}
    assert any("no label that lasts" in note for note in made.notes)


def test_a_pod_of_the_hosts_network_by_its_nodes_address() -> None:
    host = workload_pod("agent", "198.51.100.9", host_network=True, node="node-9")
    made = suggestion(host, WEB, DENY, source="team-a/agent")
    assert made.manifests[0]["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "198.51.100.9/32"}}]
    assert any("whatever else is on the node" in note for note in made.notes)


def test_nothing_is_suggested_for_what_cannot_be_named() -> None:
    host = workload_pod("agent", host_network=True, node="node-9")
    del host["status"]
    made = suggestion(host, WEB, DENY, source="team-a/agent")
    assert made.manifests == []
    assert "no rule is suggested" in made.notes[0]


def test_hostile_names_of_controllers_make_no_hostile_text() -> None:
    odd = workload_pod(
        "web", "10.0.0.3", namespace="team-b", labels={"app": "web"}, owner="X/\x1b[31m\n---\nkind: Secret"
    )
    made = suggestion(CLIENT, odd, DENY, to="team-b/web")
    assert made.comments[0][0].isprintable()
    assert made.manifests[0]["metadata"]["name"] == "31m-kind-secret-from-client-8080"


def test_many_pods_are_looked_at_up_to_a_bound() -> None:
    twins = [workload_pod(f"twin-{n}", labels={"app": "client"}) for n in range(200)]
    webs = [workload_pod(f"web-{n}", namespace="team-b", labels={"app": "web"}) for n in range(200)]
    made = suggestion(CLIENT, *twins, WEB, *webs, DENY)
    assert any("and 1" in note and "more" in note for note in made.notes)
    assert any("not looked at in full" in note for note in made.notes)
