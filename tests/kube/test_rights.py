"""The table of rights: what a start asks for, what `kiptail check` does, and whom which advice is given."""

from __future__ import annotations

import pytest

from kiptail.credentials.identity import Identity
from kiptail.kube.rights import PURPOSES, Right, Scope, Wanted, checked_rights, required_rights, what_grants

KUBELET = Identity("system:node:n1", ("system:nodes",))
ACCOUNT = ("kube-system", "kiptail")
RIGHTS = [right for purpose in PURPOSES for right in purpose.rights]
OF_NODE = ["list pods with spec.nodeName=n1", "watch pods with spec.nodeName=n1"]


def texts(rights: tuple[Wanted, ...]) -> list[str]:
    return [wanted.text for wanted in rights]


def names(rights: tuple[Wanted, ...]) -> list[str]:
    return [wanted.right.name for wanted in rights]


@pytest.mark.parametrize(("node", "pods"), [("n1", OF_NODE), (None, ["list pods", "watch pods"])])
def test_a_start_asks_for_what_kiptail_cannot_do_without(node: str | None, pods: list[str]) -> None:
    assert texts(required_rights(node, posting=True)) == [*pods, "create events", "patch events"]
    assert texts(required_rights(node, posting=False)) == pods, "a dry run posts nothing"


def test_check_asks_for_the_optional_ones_too() -> None:
    own = ["list pods of its node", "watch pods of its node", "list pods"]
    others = ["create events", "patch events", "list nodes", "list services"]
    others += ["list networkpolicies", "get namespaces"]
    assert names(checked_rights("n1", None)) == [*own, *others]
    assert names(checked_rights(None, None)) == ["list pods", "watch pods", *others]
    assert names(checked_rights("n1", ACCOUNT)) == [*own, *others, "renew its token"]
    assert names(checked_rights("n1", None, explain=False)) == [*own, *others[:-2]], "with --explain off"


@pytest.mark.parametrize("node", ["n1", None])
def test_what_a_start_needs_is_what_check_calls_no_option(node: str | None) -> None:
    asked = tuple(wanted for wanted in checked_rights(node, ACCOUNT) if not wanted.right.optional)
    assert asked == required_rights(node, posting=True)


def test_a_right_is_of_the_objects_that_its_scope_says() -> None:
    for wanted in checked_rights("n1", ACCOUNT):
        scope = wanted.right.scope
        assert wanted.node == ("n1" if scope is Scope.NODE else None)
        assert wanted.account == (ACCOUNT if scope is Scope.ACCOUNT else None)


def test_no_right_stands_twice() -> None:
    """By what is asked for it; list pods, for one, stands with three meanings."""
    assert len({(r.verb, r.group, r.resource, r.scope, r.pod_index) for r in RIGHTS}) == len(RIGHTS)
    assert all(right.without.startswith("so ") for right in RIGHTS)


@pytest.mark.parametrize("right", RIGHTS, ids=[f"{r.name} {r.pod_index}" for r in RIGHTS])
def test_kubelets_are_sent_to_their_manifest_for_what_is_in_it_only(right: Right) -> None:
    node = "n1" if right.scope is Scope.NODE else None
    advice = what_grants(KUBELET, Wanted(right, node=node))
    assert ("kiptail manifests --identity kubelet" in advice) is right.for_kubelets


@pytest.mark.parametrize(("resource", "group"), [("nodes", ""), ("networkpolicies", "networking.k8s.io")])
def test_what_the_node_authorizer_does_not_grant_takes_a_role(resource: str, group: str) -> None:
    advice = what_grants(KUBELET, Wanted(Right("list", resource, "so", group=group)))
    assert advice == (
        f"no kubelet may by itself; a ClusterRole to list {resource}, bound to the group system:nodes, grants it"
    )
