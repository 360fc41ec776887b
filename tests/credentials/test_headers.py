"""What the user of a kubeconfig makes of requests' headers: passwords, and whom it wants to be taken for."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.headers import authorization, impersonation
from kiptail.credentials.identity import Identity
from kiptail.credentials.kubeconfig import Entry
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.support.kube import EVENT, failure, list_pods, watch, write
from tests.support.kube import server as server  # noqa: PLC0414 - a fixture

SOMEBODY = {
    "as": "J\u00fcrgen \u4e2d",
    "as-uid": "u-1",
    "as-groups": ["system:masters", "a, b"],
    "as-user-extra": {"Acme.com/Project%": ["x", "y z"], "scopes": ["\u00e9"]},
}


def client(server: ApiServer, directory: Path, **user: Any) -> KubeApi:
    document = json.loads(server.kubeconfig(directory / "k").read_text())
    document["users"][0]["user"] |= user
    return KubeApi.from_kubeconfig(write(directory / "k", document))


def test_every_request_asks_for_somebody_else(server: ApiServer, tmp_path: Path) -> None:
    with closing(client(server, tmp_path, **SOMEBODY)) as api:
        list_pods(api)
        with watch(api, timeout_s=1) as lines:
            list(lines)
        assert api.allowed("list", "pods") is True
        api.version()
        api.create_event("team-a", EVENT)
        api.patch_event("team-a", "web.1", {"count": 2})
        with pytest.raises(ApiError, match="404"):
            api.request_token("team-a", "nobody", seconds=600)
        assert api.who() == Identity(SOMEBODY["as"], ("system:masters", "a, b", "system:authenticated"))  # type: ignore[arg-type]
    requests = server.requests()
    assert {request.verb for request in requests} >= {"list", "watch", "create", "patch", "get"}
    assert {request.user for request in requests} == {SOMEBODY["as"]}


def test_the_server_understands_uid_and_extra(server: ApiServer, tmp_path: Path) -> None:
    from kiptail.kube.transport import Request  # noqa: PLC0415

    body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
    with closing(client(server, tmp_path, **SOMEBODY)) as api:
        request = Request("who", "review", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        info = json.loads(api._transport.ask(request))["status"]["userInfo"]
    assert info == {
        "username": SOMEBODY["as"],
        "uid": "u-1",
        "groups": ["system:masters", "a, b", "system:authenticated"],
        "extra": {"acme.com/project%": ["x", "y z"], "scopes": ["\u00e9"]},
    }


def test_a_kubelet_that_is_impersonated_has_its_node(server: ApiServer, tmp_path: Path) -> None:
    user = {"as": "system:node:worker-7", "as-groups": ["system:nodes"]}
    with closing(client(server, tmp_path, **user)) as api:
        assert (api.user_name, api.node_name) == ("system:node:worker-7", "worker-7")
        assert api.claimed() == Identity("system:node:worker-7")


def test_who_may_not_impersonate_is_told_so_at_the_start(server: ApiServer, tmp_path: Path) -> None:
    token = server.add_user("ann")
    with closing(client(server, tmp_path, token=token, **{"as": "root"})) as api:
        error = failure(lambda: api.allowed("list", "pods"))
        assert error.status == 403
        assert not error.transient
        assert 'User "ann" cannot impersonate resource "users"' in str(error)


def test_of_whom_somebody_is_to_be_taken_for() -> None:
    made = impersonation(Entry(Path("/k"), SOMEBODY))
    extra = "impersonate-extra-"
    assert [name.lower() for name, _ in made] == [
        "impersonate-user", "impersonate-uid", "impersonate-group", "impersonate-group",
        f"{extra}acme.com%2fproject%25", f"{extra}acme.com%2fproject%25", f"{extra}scopes",
    ]  # fmt: skip
    assert made[0][1].encode("latin-1").decode() == SOMEBODY["as"]
    assert impersonation(Entry(Path("/k"), {"token": "t"})) == ()
    assert impersonation(Entry(Path("/k"), {"as": "", "as-groups": []})) == ()


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"as-groups": ["a"]}, "as-uid, as-groups and as-user-extra are of no use without as"),
        ({"as-uid": "a"}, "as-uid, as-groups and as-user-extra are of no use without as"),
        ({"as": "", "as-user-extra": {"a": []}}, "as-uid, as-groups and as-user-extra are of no use without as"),
        ({"as": "x\r\nhunter2: x"}, "as holds control characters"),
        ({"as": "x", "as-uid": "\0hunter2"}, "as-uid holds control characters"),
        ({"as": "x", "as-groups": ["a", "hunter2\x7f"]}, "as-groups holds control characters"),
        ({"as": "x", "as-user-extra": {"a": ["hunter2\n"]}}, "as-user-extra holds control characters"),
    ],
)
def test_what_cannot_be_asked_for(user: dict[str, Any], expected: str) -> None:
    with pytest.raises(ClusterError) as caught:
        impersonation(Entry(Path("/k"), user))
    assert str(caught.value) == f"the kubeconfig /k: {expected}"


@pytest.mark.parametrize("key", ["", " ", "a b", "\u4e2d", "a:b", "a\r\nb", "%", "\ud800", "A"])
def test_a_key_of_extra_is_a_headers_name(key: str) -> None:
    ((name, _),) = impersonation(Entry(Path("/k"), {"as": "x", "as-user-extra": {key: ["v"]}}))[1:]
    assert name.lower().startswith("impersonate-extra-")
    assert all((c.isalnum() and c.isascii()) or c in "-!#$%&'*+.^_`|~" for c in name)


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "p w"), ("J\u00fcrgen", "\u00e9"), ("\u4e2d", "\U0001f511"), ("a", "b:c\n"), ("\ud800", "x")],
)
def test_a_password_is_sent_as_kubectl_sends_it(name: str, password: str) -> None:
    header = authorization(Entry(Path("/k"), {"username": name, "password": password}), str)
    assert header is not None
    assert base64.b64decode(header.removeprefix("Basic ")) == f"{name}:{password}".encode(errors="replace")
