"""How near a rule came to admitting a connection, in words."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.evaluate import Case, verdicts
from kiptail.policies.misses import Miss, misses_of
from tests.support.policies import connection, namespace, objects_of, policy, workload_pod

PODS = (
    workload_pod("worker", "10.0.0.1", labels={"app": "worker"}),
    workload_pod(
        "web", "10.0.0.2", namespace="team-b", labels={"app": "web"}, ports=({"name": "http", "containerPort": 8081},)
    ),
    workload_pod("peer", "10.0.0.4", namespace="team-b", labels={"app": "peer"}),
    workload_pod("host", "198.51.100.2", host_network=True, node="node-2"),
)
CLIENT = {"podSelector": {"matchLabels": {"app": "client"}}}
IN_A = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}


def block(cidr: str, *excepts: str) -> Any:
    return {"ipBlock": {"cidr": cidr, "except": list(excepts)}}


def reasons(source: str, *rules: Any, port: str = "8080/TCP") -> list[Miss]:
    objects = objects_of(namespace("team-a", team="a"), *PODS, policy("p", namespace="team-b", ingress=list(rules)))
    case = Case(connection(objects, source, "team-b/web", port), objects.rules(), 4)
    (verdict,) = (verdict for verdict in verdicts(case) if verdict.direction == "ingress")
    return misses_of(verdict, case)


@pytest.mark.parametrize(
    ("rule", "source", "port", "reason"),
    [
        ({"from": [IN_A | CLIENT]}, "team-a/worker", "8080/TCP", "wants app=client, the peer has app=worker"),
        ({"from": [CLIENT]}, "team-b/peer", "8080/TCP", "wants app=client, the peer has app=peer"),
        ({"ports": [{"port": 80}]}, "team-a/worker", "8080/TCP", "allows 80/TCP, not 8080/TCP"),
        (
            {"from": [IN_A | CLIENT], "ports": [{"port": 80, "endPort": 90}, {"protocol": "UDP"}]},
            "team-a/worker",
            "8080/TCP",
            "wants app=client, the peer has app=worker; allows 80-90/TCP, any UDP port, not 8080/TCP",
        ),
        ({"from": [CLIENT]}, "team-a/worker", "8080/TCP",
         "is for pods of namespace team-b, the peer is in team-a; wants app=client, the peer has app=worker"),
        ({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-c"}}}]}, "team-a/worker",
         "8080/TCP", "wants namespace team-c, the peer is in team-a"),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}, "team-a/worker", "8080/TCP",
         "wants a namespace with team=b, team-a has team=a"),
        ({"from": [{"namespaceSelector": {"matchLabels": {"x": "y"}}}]}, "team-b/peer", "8080/TCP",
         "wants a namespace with x=y, team-b has no label x"),
        ({"from": [block("192.0.2.0/24")]}, "team-a/worker", "8080/TCP",
         "wants an address in 192.0.2.0/24, the peer has 10.0.0.1"),
        ({"from": [block("10.0.0.0/8", "10.0.0.0/24")]}, "team-a/worker", "8080/TCP",
         "excepts 10.0.0.0/24 from 10.0.0.0/8, the peer has 10.0.0.1"),
        ({"from": [block("fd00::/8")]}, "team-a/worker", "8080/TCP",
         "wants an address in fd00::/8, the peer has 10.0.0.1"),
        ({"from": [IN_A]}, "192.0.2.7", "8080/TCP", "is for pods, and 192.0.2.7 is none's address"),
        ({"from": [IN_A]}, "team-a/host", "8080/TCP",
         "is for pods, and team-a/host is on its node's network, where only an ipBlock matches"),
        ({"ports": [{"port": "http"}]}, "team-a/worker", "8080/TCP", "allows http/TCP (8081 there), not 8080/TCP"),
        ({"ports": [{"port": "https"}]}, "team-a/worker", "8080/TCP",
         "allows https/TCP (which the destination does not have), not 8080/TCP"),
        ({"ports": [{"port": 80}]}, "team-a/worker", "", "allows 80/TCP, not traffic without ports, as ICMP"),
        (
            {"from": [block("fd00::/8"), IN_A | CLIENT, block("192.0.2.0/24")]},
            "team-a/worker",
            "8080/TCP",
            "wants app=client, the peer has app=worker (nearest of 3 peers)",
        ),
    ],
)  # fmt: skip
def test_the_nearest_miss_is_told(rule: Any, source: str, port: str, reason: str) -> None:
    (miss,) = reasons(source, rule, port=port)
    assert (miss.policy, miss.rule, miss.reason) == ("team-b/p", 0, reason)


def test_each_rule_that_does_not_admit_is_told_with_its_place() -> None:
    found = reasons("team-a/worker", {"ports": [{"port": 80}]}, {"ports": [{"port": 8080}]}, {"ports": [{"port": 443}]})
    assert [(miss.policy, miss.rule) for miss in found] == [("team-b/p", 0), ("team-b/p", 2)]


def test_fewer_conditions_that_do_not_hold_are_nearer() -> None:
    port, both = {"ports": [{"port": 80}]}, {"from": [IN_A | CLIENT], "ports": [{"port": 80}]}
    distances = [miss.distance for miss in reasons("team-a/worker", port, both, {"from": [block("fd00::/8")]})]
    assert distances == sorted(set(distances))


def test_a_policy_without_rules_has_none_that_misses() -> None:
    assert reasons("team-a/worker") == []
