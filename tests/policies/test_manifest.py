"""Rules as manifests: what they say is what they were made of."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.manifest import new_manifest, with_rule
from kiptail.policies.policy import Policy, Rule, policy_of
from tests.apiserver.network_policies import validate_network_policy
from tests.support.policies import policy

INGRESS: list[Any] = [
    {},
    {"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"ipBlock": {"cidr": "fd00::/8"}}]},
    {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}}]},
    {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}]},
    {
        "ports": [
            {"protocol": "UDP"},
            {"protocol": "TCP", "port": "http"},
            {"protocol": "SCTP", "port": 1, "endPort": 2},
        ]
    },
]


@pytest.mark.parametrize("rule", INGRESS)
def test_a_manifest_means_what_the_policy_means(rule: Any) -> None:
    made = policy_of(policy("p", podSelector={"matchLabels": {"app": "web"}}, ingress=[rule]))
    manifest = new_manifest(made, "ingress")
    assert policy_of(manifest) == made
    assert validate_network_policy(manifest) == []


def test_a_rule_is_added_behind_the_others() -> None:
    made = with_rule(policy("p", ingress=[None, INGRESS[1]]), Rule(), "ingress")
    assert made["spec"]["ingress"] == [{}, INGRESS[1], {}]
    assert isinstance(policy_of(made), Policy)


def test_an_object_without_a_spec_gets_one() -> None:
    made = with_rule({"metadata": {"name": "p", "namespace": "a"}, "spec": None}, Rule(), "egress")
    assert made["spec"] == {"podSelector": {}, "egress": [{}]}
