"""Objects, taken in one by one: what is used, what is counted, what is passed over."""

from __future__ import annotations

import ipaddress
from typing import Any

from kiptail.policies.cluster import Objects, other_policies
from tests.support.policies import namespace, policy, workload_pod


def taken(*given: Any) -> Objects:
    objects = Objects()
    for obj in given:
        objects.take(obj)
    return objects


def test_each_kind_goes_to_its_place() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "198.51.100.1"}]}}  # fmt: skip
    objects = taken(
        workload_pod("a"), namespace("team-a", x="y"), policy("p"), node, {"kind": "Secret", "apiVersion": "v1"}
    )
    assert list(objects.pods) == ["team-a/a"]
    assert list(objects.policies) == list(objects.originals) == ["team-a/p"]
    assert objects.namespaces == {"team-a": {"x": "y"}}
    assert objects.named.names == {"198.51.100.1": "node/node-1"}
    assert objects.refusals() == []


def test_items_of_a_list_may_have_their_kind_at_the_list() -> None:
    objects = Objects()
    bare = {key: value for key, value in policy("p").items() if key not in ("kind", "apiVersion")}
    objects.take(bare, "NetworkPolicy", "networking.k8s.io/v1")
    assert list(objects.policies) == ["team-a/p"]


def test_the_last_of_a_name_counts() -> None:
    objects = taken(policy("p"), policy("p", policyTypes=["Egress"]))
    assert objects.policies["team-a/p"].ingress is None


def test_another_groups_networkpolicy_is_another_kind() -> None:
    calico = {"apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"}}
    objects = taken(
        calico, {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}, {"apiVersion": "apps/v1", "kind": "X"}
    )
    assert objects.policies == {}
    assert other_policies(objects.other_groups) == ["Calico (crd.projectcalico.org)", "Cilium (cilium.io)"]
    assert objects.refusals() == []


def test_what_cannot_be_used_is_counted_and_the_first_is_named() -> None:
    broken = [policy(name, policyTypes=["Both"]) for name in ("a", "b", "c")]
    objects = taken(*broken, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "\x1b[31m"}}, 7, namespace("BAD"))
    assert objects.refusals() == [
        "3 objects cannot be used, as NetworkPolicy team-a/a: its policyTypes are not known",
        "1 object cannot be used, as Pod: it has no usable name and namespace",
        "1 object cannot be used: is no object",
        "1 object cannot be used, as Namespace: it has no usable name",
    ]


def test_a_policy_of_no_version_is_not_passed_over_in_silence() -> None:
    bare = {**policy("p"), "apiVersion": None}
    assert taken(bare).refusals() == [
        "1 object cannot be used, as NetworkPolicy team-a/p: it does not say of which apiVersion it is"
    ]


def test_whose_address_it_is() -> None:
    objects = taken(
        workload_pod("a", "10.0.0.1", "fd00::1"),
        workload_pod("b", "10.0.0.1", phase="Succeeded"),
        workload_pod("c", "198.51.100.1", host_network=True),
    )
    assert [pod.name for pod in objects.pods_at(ipaddress.ip_address("fd00::1"))] == ["a"]
    assert [pod.name for pod in objects.pods_at(ipaddress.ip_address("10.0.0.1"))] == ["a"]
    assert objects.pods_at(ipaddress.ip_address("198.51.100.1")) == []
