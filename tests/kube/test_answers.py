"""What answers have to be, and what is in them. tests/test_answers.py asks the same of whole requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kiptail.credentials.identity import NOBODY, Identity
from kiptail.errors import ApiError
from kiptail.kube.answers import (
    CONTINUE_LENGTH,
    group_names,
    namespace_of,
    page_of,
    require_event,
    review_allows,
    reviewed_identity,
    server_version,
    token_of,
)

WHAT = "cannot do it"
AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io/v1", "authorization.k8s.io/v1"


def body(kind: str, version: str = "v1", **more: Any) -> bytes:
    return json.dumps({"kind": kind, "apiVersion": version, **more}).encode()


READERS: dict[str, Callable[[bytes], object]] = {
    "a page": lambda data: page_of("pods", WHAT, data),
    "an Event": lambda data: require_event(WHAT, data, "team-a", "web.1"),
    "a right": lambda data: review_allows(WHAT, data),
    "an identity": lambda data: reviewed_identity(WHAT, data),
    "a token": lambda data: token_of(WHAT, data),
    "a namespace": lambda data: namespace_of(WHAT, data, "team-a"),
    "groups": lambda data: group_names(WHAT, data),
    "a page of policies": lambda data: page_of("networkpolicies", WHAT, data),
    "a version": lambda data: server_version(WHAT, data),
}


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", body("Status"), body("Pod"), body("PodList", "v2")])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_of_another_kind_is_nothing_that_was_asked_for(reader: str, data: bytes) -> None:
    with pytest.raises(ApiError, match=WHAT):
        READERS[reader](data)


@pytest.mark.parametrize(("plural", "kind"), [("pods", "PodList"), ("nodes", "NodeList"), ("services", "ServiceList")])
def test_a_page_has_items_even_when_the_server_leaves_them_out(plural: str, kind: str) -> None:
    metadata = {"resourceVersion": "7", "continue": "next"}
    for more in ({}, {"items": None}, {"items": []}):
        page = page_of(plural, WHAT, body(kind, metadata=metadata, **more))
        assert (page["items"], page["metadata"]) == ([], metadata)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"items": {}, "metadata": {"resourceVersion": "1"}}, "is no PodList"),
        ({"items": []}, "is no PodList"),
        ({"metadata": {}}, "without a version"),
        ({"metadata": {"resourceVersion": "1", "continue": 5}}, "without an end"),
        ({"metadata": {"resourceVersion": "1", "continue": "é"}}, "without an end"),
        ({"metadata": {"resourceVersion": "1", "continue": "x" * (CONTINUE_LENGTH + 1)}}, "without an end"),
    ],
)
def test_a_page_that_cannot_be_gone_on_from_is_none(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError, match=why):
        page_of("pods", WHAT, body("PodList", **more))


def test_policies_are_those_of_their_group() -> None:
    metadata = {"resourceVersion": "7"}
    page = page_of("networkpolicies", WHAT, body("NetworkPolicyList", "networking.k8s.io/v1", metadata=metadata))
    assert page["items"] == []
    with pytest.raises(ApiError, match="is no NetworkPolicyList"):
        page_of("networkpolicies", WHAT, body("NetworkPolicyList", metadata=metadata))


def test_a_namespace_is_the_one_that_was_asked_for() -> None:
    assert namespace_of(WHAT, body("Namespace", metadata={"name": "team-a"}), "team-a")["kind"] == "Namespace"
    for metadata in ({"name": "team-b"}, {}, None, []):
        with pytest.raises(ApiError, match="is another Namespace"):
            namespace_of(WHAT, body("Namespace", metadata=metadata), "team-a")


def test_groups_are_names() -> None:
    groups = [{"name": "apps"}, {"name": "cilium.io", "versions": []}, {"name": 7}, {}, "x", {"name": "x" * 300}]
    assert group_names(WHAT, body("APIGroupList", groups=groups)) == {"apps", "cilium.io"}
    with pytest.raises(ApiError, match="is no APIGroupList"):
        group_names(WHAT, body("APIGroupList", groups={}))


def test_only_the_event_that_was_written_is_a_delivery() -> None:
    require_event(WHAT, body("Event", metadata={"namespace": "team-a", "name": "web.1"}), "team-a", "web.1")
    for metadata in ({"namespace": "team-b", "name": "web.1"}, {"namespace": "team-a", "name": "web.2"}, {}, None, []):
        with pytest.raises(ApiError, match="is another Event"):
            require_event(WHAT, body("Event", metadata=metadata), "team-a", "web.1")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_right_is_there_or_not(allowed: bool) -> None:
    review = body("SelfSubjectAccessReview", AUTHORIZATION, status={"allowed": allowed})
    assert review_allows(WHAT, review) is allowed


@pytest.mark.parametrize("status", [None, {}, [], {"allowed": "true"}, {"allowed": 1}])
def test_a_review_without_an_answer_is_none(status: object) -> None:
    with pytest.raises(ApiError, match="is no SelfSubjectAccessReview"):
        review_allows(WHAT, body("SelfSubjectAccessReview", AUTHORIZATION, status=status))


@pytest.mark.parametrize(
    ("info", "identity"),
    [
        (None, NOBODY),
        ("somebody", NOBODY),
        ({"username": "ann", "groups": ["a", 5, "b"]}, Identity("ann", ("a", "b"))),
        ({"username": 5, "groups": "a"}, Identity("", None)),
    ],
)
def test_who_this_is_is_told_or_not(info: object, identity: Identity) -> None:
    assert reviewed_identity(WHAT, body("SelfSubjectReview", AUTHENTICATION, status={"userInfo": info})) == identity


def test_a_token_is_one_that_can_stand_in_a_header() -> None:
    assert token_of(WHAT, body("TokenRequest", AUTHENTICATION, status={"token": "a.b-c_d.e="})) == "a.b-c_d.e="
    for token in ("", "a b", "a\nb", "é", 5, None, "x" * 70_000):
        with pytest.raises(ApiError, match="holds no token") as caught:
            token_of(WHAT, body("TokenRequest", AUTHENTICATION, status={"token": token}))
        assert not isinstance(token, str) or len(token) < 3 or token not in str(caught.value)


def test_a_version_is_one_short_line() -> None:
    assert server_version(WHAT, b'{"gitVersion": "v1.36.0"}') == "v1.36.0"
    assert len(server_version(WHAT, json.dumps({"gitVersion": "v\n" * 500}).encode()).splitlines()) == 1
