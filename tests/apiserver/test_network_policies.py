"""NetworkPolicies: a group of their own, the defaults, and the validation."""

from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.client import Client

URL = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"podSelector": {}, **spec},
    }


@pytest.fixture(autouse=True)
def _namespace(server: ApiServer) -> None:
    server.namespaces.put({"metadata": {"name": "team-a"}})


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
    ],
)
def test_the_defaults_are_filled_in(client: Client, spec: Any, types: list[str]) -> None:
    made = client.post(URL, policy(**spec))
    assert made.status == 201
    assert (made.body["apiVersion"], made.body["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert made.body["spec"]["policyTypes"] == types
    listed = client.get(URL)
    assert (listed.body["apiVersion"], listed.body["kind"]) == ("networking.k8s.io/v1", "NetworkPolicyList")
    assert listed.names == ["p"]


@pytest.mark.parametrize(
    "spec",
    [
        {"policyTypes": ["Both"]},
        {"ingress": [{"from": [{}]}]},
        {"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]},
        {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]},
        {"ingress": [{"ports": [{"port": "80"}]}]},
        {"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]},
        {"ingress": [{"ports": [{"protocol": "ICMP"}]}]},
        {"ingress": [{"to": []}]},
        {"podSelector": {"matchLabels": {"a b": "c"}}},
        {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
    ],
)
def test_what_is_none_is_refused(client: Client, spec: Any) -> None:
    assert client.post(URL, policy(**spec)).status == 422


def test_they_are_in_their_group_alone(client: Client, server: ApiServer) -> None:
    assert client.get("/api/v1/namespaces/team-a/networkpolicies").status == 404
    assert client.get("/apis/networking.k8s.io/v1/namespaces/team-a/pods").status == 404
    assert client.get(f"{URL}/x").body["details"] == {
        "name": "x",
        "group": "networking.k8s.io",
        "kind": "networkpolicies",
    }
    with Client(server, server.add_user("nobody")) as nobody:
        assert nobody.get(URL).body["message"] == (
            'networkpolicies.networking.k8s.io is forbidden: User "nobody" cannot list resource "networkpolicies" in'
            ' API group "networking.k8s.io" in the namespace "team-a"'
        )


def test_they_are_watched(client: Client, server: ApiServer) -> None:
    with client.watch(f"{URL}?watch=1") as stream:
        server.network_policies.put({"metadata": {"name": "q", "namespace": "team-a"}, "spec": {"podSelector": {}}})
        line = stream.next()
        assert line["object"]["apiVersion"] == "networking.k8s.io/v1"
