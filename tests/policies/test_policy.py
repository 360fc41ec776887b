"""NetworkPolicies as objects: what is made of them, and what is refused with which words."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from kiptail.policies.malformed import Malformed
from kiptail.policies.policy import Peer, Port, Rule, policy_of
from kiptail.policies.selector import Selector
from tests.support.answers import ODD
from tests.support.fuzzing import cases, source
from tests.support.policies import policy

FULL = policy(
    "p",
    podSelector={"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "In", "values": ["y"]}]},
    policyTypes=["Ingress", "Egress"],
    ingress=[
        {
            "from": [
                {"podSelector": {}, "namespaceSelector": {}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            ],
            "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}],
        }
    ],
    egress=[{"to": [{"namespaceSelector": {}}]}],
)


def test_a_policy_is_reduced_to_what_decides() -> None:
    made = policy_of(FULL)
    assert made.ref == "team-a/p"
    assert made.rules("egress") == (Rule((Peer(None, Selector()),)),)
    ((peers, ports),) = [(rule.peers, rule.ports) for rule in made.rules("ingress") or ()]
    assert peers[0] == Peer(Selector(), Selector())
    assert peers[1].block is not None
    assert str(peers[1].block.excepts[0]) == "10.1.0.0/16"
    assert ports == (Port("TCP", 80, 90), Port("TCP", "http"))


def test_it_applies_to_what_policytypes_say() -> None:
    assert policy_of(policy("p")).ingress == ()
    assert policy_of(policy("p")).egress is None
    assert policy_of(policy("p", policyTypes=["Egress"], ingress=[{}])).ingress is None
    assert policy_of(policy("p", egress=[{}])).egress == (Rule(),)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"policyTypes": ["Both"]}, "policyTypes"),
        ({"policyTypes": "Ingress"}, "policyTypes"),
        ({"podSelector": []}, "podSelector"),
        ({"podSelector": {"matchLabels": {"a": 1}}}, "matchLabels"),
        ({"ingress": {}}, "ingress"),
        ({"ingress": [{"from": [None]}]}, "neither selectors nor"),
        ({"ingress": [{"from": [{}]}]}, "neither selectors nor"),
        ({"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, "and selectors"),
        ({"ingress": [{"from": [{"ipBlock": {}}]}]}, "a range that is none"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}, "a range that is none"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "::/0", "except": ["x"]}}]}]}, "a range that is none"),
        ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, "protocol"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "neither a number nor a name"),
        ({"ingress": [{"ports": [{"port": 65536}]}]}, "neither a number nor a name"),
        ({"ingress": [{"ports": [{"port": True}]}]}, "neither a number nor a name"),
        ({"ingress": [{"ports": [{"port": "80"}]}]}, "name that cannot be one"),
        ({"ingress": [{"ports": [{"port": "http\x1b"}]}]}, "name that cannot be one"),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "endPort"),
        ({"ingress": [{"ports": [{"port": "http", "endPort": 90}]}]}, "endPort"),
        ({"ingress": [{"ports": [{"endPort": 90}]}]}, "endPort"),
    ],
)
def test_what_the_api_server_does_not_take_is_refused(spec: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        policy_of(policy("p", **spec))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "metadata", [None, {}, {"name": "p"}, {"name": "P", "namespace": "a"}, {"name": "p", "namespace": "a/b"}]
)
def test_it_has_to_have_a_name(metadata: Any) -> None:
    with pytest.raises(Malformed, match="name"):
        policy_of({**policy("p"), "metadata": metadata})


def test_what_is_nested_without_an_end_is_refused() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"x": [deep]}
    with pytest.raises(Malformed, match="too deeply"):
        policy_of(policy("p", more=deep))


@pytest.mark.fuzz
def test_whatever_an_object_is_it_is_a_policy_or_refused() -> None:
    chance, seed = source("policies")
    for _ in range(cases(3_000)):
        obj = copy.deepcopy(FULL)
        _damage(chance, obj)
        told = ""
        try:
            policy_of(obj)
        except Malformed as error:
            told = str(error)
        assert told.isprintable(), seed


def _damage(chance: random.Random, obj: Any) -> None:
    """Put odd values in."""
    places = []
    todo = [obj]
    while todo:
        node = todo.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            todo.append(node[key])
    for node, key in chance.sample(places, chance.choice((1, 1, 2, 4))):
        node[key] = copy.deepcopy(chance.choice(ODD))
