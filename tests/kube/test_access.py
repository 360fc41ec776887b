"""Asking the API server for rights."""

from __future__ import annotations

import pytest

from kiptail.credentials.identity import Identity
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.access import is_allowed, require_rights
from kiptail.kube.rights import Right, Wanted, checked_rights, required_rights


class Server:
    """Grants all but ``lacking`` (verb and resource), and keeps what it was asked."""

    server = "https://cluster"

    def __init__(self, *lacking: str, answer: bool | ApiError | None = True) -> None:
        self.lacking, self.answer = lacking, answer
        self.asked: list[dict[str, object]] = []

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        field_selector: tuple[str, str] | None = None,
        namespace: str = "",
        name: str = "",
    ) -> bool | None:
        asked = {"verb": verb, "resource": resource, "group": group, "field": field_selector}
        self.asked.append({**asked, "namespace": namespace, "name": name})
        if isinstance(self.answer, ApiError):
            raise self.answer
        return False if f"{verb} {resource}" in self.lacking else self.answer

    def identity(self) -> Identity:
        return Identity("system:serviceaccount:kube-system:kiptail")


def test_a_right_is_asked_for_with_all_that_it_is_about() -> None:
    server = Server()
    policies = Right("list", "networkpolicies", "so", group="networking.k8s.io")
    for wanted in (Wanted(policies), checked_rights("n1", ("ns", "kiptail"))[0], checked_rights("n1", ("ns", "a"))[-1]):
        assert is_allowed(server, wanted) is True
    nothing = {"group": "", "field": None, "namespace": "", "name": ""}
    assert server.asked == [
        {**nothing, "verb": "list", "resource": "networkpolicies", "group": "networking.k8s.io"},
        {**nothing, "verb": "list", "resource": "pods", "field": ("spec.nodeName", "n1")},
        {**nothing, "verb": "create", "resource": "serviceaccounts/token", "namespace": "ns", "name": "a"},
    ]


def test_what_is_missing_is_named_with_one_remedy_for_all_of_it() -> None:
    rights = required_rights("n1", posting=True)
    require_rights(Server(), rights, must_answer=True)
    with pytest.raises(ClusterError) as caught:
        require_rights(Server("watch pods", "patch events"), rights, must_answer=True)
    assert str(caught.value) == (
        "the cluster does not allow this credential to watch pods with spec.nodeName=n1, patch events;"
        " `kiptail manifests | kubectl apply -f -` grants it"
    )


@pytest.mark.parametrize("answer", [None, ApiError("away")], ids=["may not be asked", "no answer"])
def test_what_nobody_says_is_no_refusal(answer: ApiError | None) -> None:
    require_rights(Server(answer=answer), required_rights(None, posting=True), must_answer=False)
