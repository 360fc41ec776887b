"""Which policies an Event is to name, and whose namespaces' labels have to be known for that."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.denial import Denial, PolicyName, deny, namespaces_that_matter
from kiptail.policies.evaluate import Rules
from tests.support.policies import connection, namespace, objects_of, policy, workload_pod

PODS = (
    workload_pod("client", "10.0.0.1", labels={"app": "client"}),
    workload_pod("web", "10.0.0.2", namespace="team-b", labels={"app": "web"}),
)


def denial(*policies: Any, port: str = "80/TCP", to: str = "team-b/web") -> Denial:
    objects = objects_of(*PODS, *policies)
    return deny(connection(objects, "team-a/client", to, port), objects.rules())


def names(*refs: str) -> tuple[PolicyName, ...]:
    return tuple(PolicyName(*ref.split("/")) for ref in refs)


def test_nothing_is_in_the_way_of_what_no_policy_selects_or_one_admits() -> None:
    assert denial() == Denial()
    assert denial(policy("open", namespace="team-b", ingress=[{}]), policy("deny", namespace="team-b")) == Denial()


def test_each_end_that_does_not_admit_it_names_all_that_isolate_it() -> None:
    out = policy("out", policyTypes=["Egress"])
    into = [policy(name, namespace="team-b") for name in ("b", "a")]
    assert denial(out) == Denial(egress=names("team-a/out"))
    assert denial(*into) == Denial(ingress=names("team-b/a", "team-b/b"))
    assert denial(out, *into) == Denial(names("team-a/out"), names("team-b/a", "team-b/b"))


def test_an_outsider_has_no_say() -> None:
    assert denial(policy("out", policyTypes=["Egress"]), to="192.0.2.7") == Denial(egress=names("team-a/out"))
    assert denial(policy("in", namespace="team-b"), to="192.0.2.7") == Denial()


@pytest.mark.parametrize(
    ("rule", "matter"),
    [
        ({}, set()),
        ({"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}, set()),
        ({"from": [{"namespaceSelector": {}}]}, set()),
        ({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}]}, set()),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}, {"team-a"}),
        (
            {"from": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}]},
            {"team-a"},
        ),
    ],
    ids=["no peers", "pods", "all namespaces", "by name", "by a label", "without a label"],
)
def test_labels_matter_where_a_selector_asks_for_them(rule: Any, matter: set[str]) -> None:
    objects = objects_of(*PODS, policy("p", namespace="team-b", ingress=[rule]), policy("q"))
    asked = connection(objects, "team-a/client", "team-b/web")
    assert namespaces_that_matter(asked, objects.rules()) == matter
    assert namespaces_that_matter(connection(objects, "192.0.2.7", "team-b/web"), objects.rules()) == set()


def test_rules_of_several_namespaces_are_put_together_with_what_is_known_of_labels() -> None:
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}
    objects = objects_of(*PODS, policy("p", namespace="team-b", ingress=[rule]), namespace("team-a", team="x"))
    asked = connection(objects, "team-a/client", "team-b/web")
    parts = [Rules([each], {}) for each in objects.policies.values()]
    assert deny(asked, Rules.joined(parts, {"team-a": {"team": "x"}})) == Denial()
    assert deny(asked, Rules.joined(parts, {"team-a": {"team": "y"}})) == Denial(ingress=names("team-b/p"))
    assert list(parts[0].policies("team-b")) == list(objects.policies.values()), "the parts stay as they are"
