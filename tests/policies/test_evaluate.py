"""Rules as a set: which policies there are, and what is added to them."""

from __future__ import annotations

from typing import Any

from kiptail.policies.evaluate import Rules, allowed, best_family
from kiptail.policies.policy import policy_of
from tests.support.policies import connection, objects_of, policy, workload_pod

PODS = (workload_pod("a", "10.0.0.1", "fd00::1"), workload_pod("b", "10.0.0.2", "fd00::2"))


def rules(*given: Any) -> Rules:
    return Rules(map(policy_of, given), {"team-a": {"x": "y"}})


def test_policies_are_kept_by_namespace_in_the_order_of_their_names() -> None:
    made = rules(policy("b"), policy("c", namespace="team-b"), policy("a"))
    assert [each.ref for each in made.policies("team-a")] == ["team-a/a", "team-a/b"]
    assert list(made.policies("nowhere")) == []


def test_what_is_added_takes_the_place_of_its_name_and_changes_nothing_else() -> None:
    before = rules(policy("a"), policy("b"))
    after = before.with_policies([policy_of(policy("a", policyTypes=["Egress"]))])
    assert [each.ingress for each in after.policies("team-a")] == [None, ()]
    assert [each.ingress for each in before.policies("team-a")] == [(), ()]
    assert after.labels("team-a") == {"x": "y", "kubernetes.io/metadata.name": "team-a"}


def test_a_label_cannot_give_a_namespace_another_name() -> None:
    made = Rules([], {"team-a": {"kubernetes.io/metadata.name": "team-b"}})
    assert made.labels("team-a")["kubernetes.io/metadata.name"] == "team-a"


def test_the_family_that_is_allowed_is_preferred() -> None:
    objects = objects_of(*PODS)
    asked = connection(objects, "team-a/a", "team-a/b")
    six = rules(policy("six", ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}]))
    assert best_family(asked, rules()) == 4
    assert best_family(asked, six) == 6
    assert best_family(asked, rules(policy("deny"))) == 4
    assert allowed(asked, six)
