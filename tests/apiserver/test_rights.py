"""Who may do what on the test server."""

import json
import socket
import ssl
import time
from email.utils import parsedate_to_datetime

import pytest

from tests.apiserver import certificates
from tests.apiserver.client import Client
from tests.apiserver.objects import EVENTS, event, pod


def test_rights_can_be_given_and_taken_while_it_runs(server):
    server.store.ensure_namespace("team-a")
    server.store.ensure_namespace("team-b")
    with Client(server, server.add_user("kiptail", "ops")) as caller:
        assert caller.get("/api/v1/pods").status == 403
        server.grant("ops", "list watch", "pods")
        assert caller.get("/api/v1/pods").status == 200
        assert caller.get("/api/v1/namespaces/team-a/pods").status == 200
        assert caller.get("/api/v1/namespaces/team-a/pods/web").status == 403
        server.grant("kiptail", "create", "events", namespace="team-a")
        assert caller.post(EVENTS, event("e")).status == 201
        assert caller.post(EVENTS.replace("team-a", "team-b"), event("e", namespace="team-b")).status == 403
        assert caller.patch(f"{EVENTS}/e", {"count": 2}).status == 403
        server.revoke("ops", "list")
        refused = caller.get("/api/v1/pods")
        assert refused.body["message"].startswith('pods is forbidden: User "kiptail" cannot list resource "pods"')
        server.revoke("kiptail")
        assert caller.post(EVENTS, event("f")).status == 403
        refused = caller.get("/metrics")
        assert refused.body["message"] == 'forbidden: User "kiptail" cannot get path "/metrics"'


def review(caller, **attributes):
    body = {"spec": {"resourceAttributes": attributes}}
    return caller.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body).body["status"]


def test_a_kubelet_reviews_itself_as_it_is_treated(server):
    server.pods.put(pod("mine"))
    server.pods.put(pod("other", node="node-2"))
    only_mine = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["node-1"]}]}
    pods = {"verb": "list", "resource": "pods"}
    get = {"verb": "get", "resource": "pods", "namespace": "team-a"}
    not_mine = {"rawSelector": "spec.nodeName=node-2"}
    with Client(server, server.add_user("system:node:node-1")) as caller:
        for path, attributes, allowed in (
            ("pods", pods, False),
            ("pods?fieldSelector=spec.nodeName=node-1", {**pods, "fieldSelector": only_mine}, True),
            ("pods?fieldSelector=spec.nodeName=node-2", {**pods, "fieldSelector": not_mine}, False),
            ("pods?fieldSelector=status.podIP=10.0.0.1&resourceVersion=0", pods, False),
            ("namespaces/team-a/pods/mine", {**get, "name": "mine"}, True),
            ("namespaces/team-a/pods/other", {**get, "name": "other"}, False),
            ("nodes", {"verb": "list", "resource": "nodes"}, False),
            ("services", {"verb": "list", "resource": "services"}, True),
            ("namespaces", {"verb": "list", "resource": "namespaces"}, False),
            ("events", {"verb": "list", "resource": "events"}, False),
        ):
            assert (caller.get(f"/api/v1/{path}").status == 200) is allowed, path
            status = review(caller, **attributes)
            assert status["allowed"] is allowed, (path, status)
        wrong = caller.get("/api/v1/namespaces/team-a/pods/other").body["message"]
        assert wrong.endswith("no relationship found between node 'node-1' and this object")
        server.grant("system:nodes", "list watch", "pods nodes")
        assert caller.get("/api/v1/pods").names == ["mine", "other"]
        assert review(caller, verb="list", resource="pods")["allowed"]


def test_reviews_need_a_question_and_normalise_it(client):
    url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert client.post(url, {"spec": {}}).status == 400
    paths = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}}
    assert client.post(url, paths).body["status"] == {"allowed": True}


def test_tokens_expire_and_can_be_revoked(server):
    path = "/api/v1/pods"
    for token in (server.add_user("a", lifetime=-1), "unknown"):
        with Client(server, token) as caller:
            assert caller.get(path).body["message"] == "Unauthorized"
    token = server.add_user("b", "system:masters", token="the-token")
    with Client(server, token) as caller:
        assert caller.get(path).status == 200
        server.access.revoke_token("the-token")
        assert caller.get(path).status == 401


def test_who_shows_nothing_is_anonymous(server):
    with Client(server, None) as caller:
        assert caller.get("/version").status == caller.get("/readyz").status == 200
        assert 'User "system:anonymous"' in caller.get("/api/v1/pods").body["message"]
        assert caller.get("/apis").status == 403
        server.access.anonymous = False
        assert caller.get("/version").status == 401


def test_a_service_accounts_token_is_that_account(client, server):
    url = "/api/v1/namespaces/kube-system/serviceaccounts/kiptail/token"
    assert client.post(url, {}).status == 404
    server.serviceaccounts.put({"metadata": {"name": "kiptail", "namespace": "kube-system"}})
    token = client.post(url, {"spec": {"expirationSeconds": 600}}).body["status"]["token"]
    with Client(server, token) as caller:
        reviewed = caller.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).body
    assert reviewed["status"]["userInfo"]["username"] == "system:serviceaccount:kube-system:kiptail"
    assert "system:serviceaccounts" in reviewed["status"]["userInfo"]["groups"]


def test_a_client_certificate_names_user_and_groups(server):
    pair = certificates.authority().client("system:node:node-1", "system:nodes")
    files = (str(pair.certificate), str(pair.key))
    with Client(server, None, certificate=files) as caller:
        reviewed = caller.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).body
        assert caller.get("/api/v1/pods?fieldSelector=spec.nodeName=node-1").status == 200
    assert reviewed["status"]["userInfo"] == {
        "username": "system:node:node-1",
        "groups": ["system:nodes", "system:authenticated"],
    }


def test_impersonation_needs_the_right_for_each_part(client, server):
    headers = {"Impersonate-User": "ann", "Impersonate-Group": "ops", "Impersonate-Extra-acme.com%2fx": "y"}
    url = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    with Client(server, server.add_user("bob")) as caller:
        refused = caller.request("POST", url, {}, headers)
        assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
        why = 'User "bob" cannot impersonate resource "users" in API group "" at the cluster scope'
        assert refused.body["message"] == f'users "ann" is forbidden: {why}'
        server.access.grant("bob", "impersonate", "users groups")
        why = 'cannot impersonate resource "userextras/acme.com/x" in API group "authentication.k8s.io"'
        assert why in caller.request("POST", url, {}, headers).body["message"]
        assert caller.request("POST", url, {}, {"Impersonate-Group": "ops"}).status == 500
    told = client.request("POST", url, {}, headers).body["status"]["userInfo"]
    assert told == {"username": "ann", "groups": ["ops", "system:authenticated"], "extra": {"acme.com/x": ["y"]}}


def test_a_client_that_trusts_another_ca_does_not_disturb_the_server(client, server):
    context = ssl.create_default_context(cafile=str(certificates.wrong_authority().certificate))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert client.get("/version").status == 200


@pytest.mark.parametrize("ca", ["embedded", "file", "wrong", "insecure", "none"])
def test_kubeconfigs(server, tmp_path, ca):
    path = server.kubeconfig(tmp_path / "config", ca=ca, client=("me", "ops"), namespace="team-a")
    assert path.stat().st_mode & 0o777 == 0o600
    config = json.loads(path.read_text())
    [cluster] = config["clusters"]
    assert cluster["cluster"]["server"] == f"https://127.0.0.1:{server.port}"
    assert config["users"][0]["user"].keys() == {"client-certificate-data", "client-key-data"}
    token_file = server.kubeconfig(tmp_path / "other", token_file="/t")
    assert json.loads(token_file.read_text())["users"][0]["user"] == {"tokenFile": "/t"}


RBAC = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: one, namespace: ops}
---
kind: Role
metadata: {name: r, namespace: ops}
rules:
  - {apiGroups: [""], resources: [serviceaccounts/token], resourceNames: [one], verbs: [create]}
---
kind: RoleBinding
metadata: {name: b, namespace: ops}
roleRef: {kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: one, namespace: ops}]
"""


def test_manifests_grant_what_they_name_and_no_more(server):
    server.apply(RBAC)
    server.serviceaccounts.put({"metadata": {"name": "two", "namespace": "ops"}})
    server.serviceaccounts.put({"metadata": {"name": "one", "namespace": "other"}})
    with Client(server, server.add_user("system:serviceaccount:ops:one")) as caller:
        assert caller.post("/api/v1/namespaces/ops/serviceaccounts/one/token", {"spec": {}}).status == 201
        assert caller.post("/api/v1/namespaces/ops/serviceaccounts/two/token", {"spec": {}}).status == 403
        assert caller.post("/api/v1/namespaces/other/serviceaccounts/one/token", {"spec": {}}).status == 403
        asked = {"verb": "create", "resource": "serviceaccounts", "subresource": "token", "namespace": "ops"}
        assert review(caller, **asked, name="one")["allowed"] is True
        assert review(caller, **asked, name="two")["allowed"] is False
        assert review(caller, **asked)["allowed"] is False


def test_a_token_lives_no_longer_than_the_server_lets_it(server):
    server.apply(RBAC)
    server.access.longest_token = 600
    with Client(server, server.admin_token) as admin:
        path = "/api/v1/namespaces/ops/serviceaccounts/one/token"
        answer = admin.post(path, {"spec": {"expirationSeconds": 86_400}}).body
    assert answer["spec"]["expirationSeconds"] == 600


def test_its_clock_can_be_wrong(server):
    server.clock_offset = -86_400.0
    with Client(server, server.admin_token) as admin:
        date = parsedate_to_datetime(admin.get("/version").headers["Date"])
    assert time.time() - date.timestamp() > 86_000
