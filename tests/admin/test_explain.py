"""`kiptail explain` as its users meet it: what it prints, by files and by a cluster, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver import ApiServer
from tests.support.policies import namespace, policy, workload_pod
from tests.support.running import ROOT, run_kiptail

CLIENT = workload_pod("client", "10.0.0.1", "fd00::1", labels={"app": "client"})
WEB = workload_pod("web", "10.0.0.3", "fd00::3", namespace="team-b", labels={"app": "web"})
DB = workload_pod("db", "10.0.0.5", namespace="team-b", labels={"app": "db"})
DENY = policy("default-deny", namespace="team-b")
OBJECTS = (namespace("team-a"), namespace("team-b"), CLIENT, WEB, DB, DENY)
ASKED = ("team-a/client", "team-b/web", "8080")


def listed(*items: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(listed(*OBJECTS)))
    return path


def test_text_has_the_verdict_first_and_the_manifest_last(file: Path) -> None:
    done = run_kiptail("explain", "--objects", file, *ASKED)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "denied: team-a/client (10.0.0.1) → team-b/web (10.0.0.3) on port 8080/TCP"
    assert "  team-b/default-deny: has no ingress rule" in lines
    at = lines.index("This would let it through (kubectl apply -f):")
    assert lines[at + 2] == "# Opens 8080/TCP to web from pods of team-a with app=client"
    assert yaml.safe_load("\n".join(lines[at + 2 :]))["kind"] == "NetworkPolicy"


def test_yaml_is_the_suggestion_alone_and_it_helps(file: Path) -> None:
    done = run_kiptail("explain", "--objects", file, "--output", "yaml", *ASKED)
    assert (done.returncode, done.stderr) == (0, b"")
    suggested = file.with_name("suggested.yaml")
    suggested.write_bytes(done.stdout)
    again = run_kiptail("explain", "--objects", file, "--objects", suggested, "--output", "json", *ASKED)
    assert json.loads(again.stdout)["allowed"] is True
    other = run_kiptail("explain", "--objects", file, "--objects", suggested, "--output", "json", *ASKED[:2], "8081")
    assert json.loads(other.stdout)["allowed"] is False


def test_yaml_is_nothing_where_nothing_has_to_be_added(file: Path) -> None:
    done = run_kiptail("explain", "--objects", file, "--output", "yaml", "team-b/web", "team-a/client", "80")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"it is allowed" in done.stderr


def test_json_is_one_object(file: Path) -> None:
    done = run_kiptail("explain", "--objects", file, "--output", "json", "10.0.0.1", "fd00::3", "53/udp")
    document = json.loads(done.stdout)
    assert list(document) == ["allowed", "ends", "suggestion", "notes"]
    assert [end["direction"] for end in document["ends"]] == ["egress", "ingress"]
    # A family that both have: by address it is the address's.
    assert any("no address of the same family" in note for note in document["notes"])


def test_by_address_the_family_is_the_addresss(tmp_path: Path) -> None:
    """And by name any may admit."""
    four = policy("four", namespace="team-b", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(listed(CLIENT, WEB, four)))
    for source, allowed in (("team-a/client", True), ("10.0.0.1", True), ("fd00::1", False)):
        done = run_kiptail("explain", "--objects", path, "--output", "json", source, "team-b/web", "80")
        document = json.loads(done.stdout)
        assert document["allowed"] is allowed, source
        assert [end["pod"] for end in document["ends"]] == ["team-a/client", "team-b/web"]


@pytest.mark.parametrize("port", ["0", "65536", "http", "80/ICMP", "80/", "/TCP", "-1", "8\u0660", "80/TCP/x", ""])
def test_a_port_that_is_none_is_a_usage_error(file: Path, port: str) -> None:
    done = run_kiptail("explain", "--objects", file, *ASKED[:2], "--", port)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("kiptail: PORT: ")


@pytest.mark.parametrize(
    "end", ["web", "team-b/", "/web", "team-b/web/x", "Team-B/web", "10.0.0.0/8", "10.0.0.256", "fe80::1%a", ""]
)
def test_an_end_that_is_none_is_a_usage_error(file: Path, end: str) -> None:
    done = run_kiptail("explain", "--objects", file, "team-a/client", end, "80")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("kiptail: DESTINATION: ")


def test_a_pod_that_is_not_there_is_named(file: Path) -> None:
    done = run_kiptail("explain", "--objects", file, "team-a/nobody", "team-b/web", "80")
    assert done.returncode == 2
    assert done.stderr.decode() == f"kiptail: SOURCE: there is no pod team-a/nobody in {file}\n"


def test_ends_are_needed(file: Path) -> None:
    assert run_kiptail("explain", "--objects", file, "team-a/client").returncode == 2
    assert run_kiptail("explain", "--objects", file, "--output", "xml", *ASKED).returncode == 2


def test_what_was_asked_may_come_by_a_pipe() -> None:
    data = json.dumps(listed(*OBJECTS)).encode()
    for name in ("-", "/dev/stdin"):
        done = run_kiptail("explain", "--objects", name, "--output", "json", *ASKED, stdin=data)
        assert json.loads(done.stdout)["allowed"] is False


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/kmsg", "/nowhere", "/"])
def test_what_is_no_file_is_refused_at_once(name: str) -> None:
    done = run_kiptail("explain", "--objects", name, *ASKED, timeout=20)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"kiptail: --objects: {name} cannot be read: ")


def test_a_pipe_without_another_end_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = run_kiptail("explain", "--objects", tmp_path / "pipe", *ASKED, timeout=20)
    assert done.returncode == 2
    assert b"it is no regular file" in done.stderr


def test_what_cannot_be_used_is_counted_in_a_note(tmp_path: Path) -> None:
    broken = policy("broken", namespace="team-b", policyTypes=["Sideways\x1b[31m"])
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(listed(*OBJECTS, broken)))
    done = run_kiptail("explain", "--objects", path, *ASKED)
    text = done.stdout.decode()
    assert "note: 1 object cannot be used, as NetworkPolicy team-b/broken: its policyTypes are not known" in text
    assert "\x1b" not in text


def test_the_help_and_the_manual_tell_of_it() -> None:
    done = run_kiptail("explain", "--help")
    assert b"explain [OPTIONS] SOURCE DESTINATION [PORT[/PROTOCOL]]" in done.stdout


# -- a cluster


@pytest.fixture
def cluster() -> Iterator[ApiServer]:
    with ApiServer() as server:
        for obj in OBJECTS[:2]:
            server.namespaces.put(obj)
        for obj in (CLIENT, WEB, DB):
            server.pods.put(obj)
        server.network_policies.put(DENY)
        yield server


def ask(
    server: ApiServer, tmp_path: Path, *arguments: str, user: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    token = {"token": server.add_user(user)} if user else {}
    path = server.kubeconfig(tmp_path / "kubeconfig", **token)
    return run_kiptail("explain", *arguments, **{"KUBECONFIG": str(path), **environment})


def developer(server: ApiServer, *more: str) -> None:
    """The rights that an answer by names takes, in two namespaces; ``more``: pods, namespaces, services."""
    for name in ("team-a", "team-b"):
        server.grant("dev", "list", "pods", namespace=name)
        server.grant("dev", "list", "networkpolicies", namespace=name, group="networking.k8s.io")
        if "namespaces" in more:
            server.grant("dev", "get", "namespaces", namespace=name)
    for each in set(more) - {"namespaces"}:
        server.grant("dev", "list", each)


def test_the_cluster_is_asked_for_the_two_namespaces_only(cluster: ApiServer, tmp_path: Path) -> None:
    done = ask(cluster, tmp_path, "--output", "json", *ASKED)
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["allowed"] is False
    assert document["notes"] == []
    assert document["suggestion"][0]["spec"]["podSelector"] == {"matchLabels": {"app": "web"}}
    assert sorted({request.path for request in cluster.requests("GET")}) == [
        "/api/v1/namespaces/team-a",
        "/api/v1/namespaces/team-a/pods",
        "/api/v1/namespaces/team-b",
        "/api/v1/namespaces/team-b/pods",
        "/apis",
        "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies",
        "/apis/networking.k8s.io/v1/namespaces/team-b/networkpolicies",
    ]
    assert all(request.query.get("limit") == "500" for request in cluster.requests("GET") if request.verb == "list")


def test_kubectl_applies_what_is_suggested_and_then_it_is_allowed(cluster: ApiServer, tmp_path: Path) -> None:
    done = ask(cluster, tmp_path, "--output", "yaml", *ASKED)
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "HOME": str(tmp_path)}
    applied = subprocess.run(
        ["kubectl", "apply", "-f", "-"],
        input=done.stdout,
        capture_output=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert applied.returncode == 0, applied.stderr
    document = json.loads(ask(cluster, tmp_path, "--output", "json", *ASKED).stdout)
    assert document["allowed"] is True
    assert document["ends"][1]["allowed_by"] == ["team-b/web-from-client-8080"]


def test_the_documentation_shows_what_is_printed(tmp_path: Path) -> None:
    others = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "frontend"}}}]
    web = workload_pod("web-0", "10.244.2.3", namespace="team-b", labels={"app": "web"}, owner="StatefulSet/web")
    with ApiServer() as server:
        server.pods.put(workload_pod("client", "10.244.1.9", labels={"app": "client"}))
        server.pods.put(web)
        server.network_policies.put(DENY)
        selects_web = {"matchLabels": {"app": "web"}}
        server.network_policies.put(
            policy("web", namespace="team-b", podSelector=selects_web, ingress=[{"from": others}])
        )
        printed = ask(server, tmp_path, "team-a/client", "team-b/web-0", "8080").stdout.decode()
    for name in ("docs/explain.md", "README.md"):
        shown = (ROOT / name).read_text().partition("$ kiptail explain team-a/client team-b/web-0 8080\n")[2]
        shown = shown.partition("```")[0]
        assert shown
        assert printed.startswith(shown), name
    assert printed == (ROOT / "docs/explain.md").read_text().partition("web-0 8080\n")[2].partition("```")[0]


def test_a_developer_needs_no_more_than_the_namespaces(cluster: ApiServer, tmp_path: Path) -> None:
    developer(cluster, "namespaces")
    document = json.loads(ask(cluster, tmp_path, "--output", "json", *ASKED, user="dev").stdout)
    assert document["allowed"] is False
    assert document["notes"] == []


def test_a_right_that_is_not_needed_is_a_note(cluster: ApiServer, tmp_path: Path) -> None:
    developer(cluster)
    done = ask(cluster, tmp_path, "--output", "json", "192.0.2.7", "team-b/web", "80", user="dev")
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "may not list the pods of all namespaces",
        "may not list services",
        "cannot get namespace team-b",
    ]


@pytest.mark.parametrize(
    ("resource", "remedy"),
    [
        ("pods", "it takes the right to list pods in namespace team-a"),
        ("networkpolicies", "it takes the right to list networkpolicies in namespace team-a"),
    ],
)
def test_a_right_that_is_needed_is_named(cluster: ApiServer, tmp_path: Path, resource: str, remedy: str) -> None:
    developer(cluster, "namespaces")
    cluster.revoke("dev", "list", resource)
    done = ask(cluster, tmp_path, *ASKED, user="dev")
    assert done.returncode == 4
    assert remedy in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_by_addresses_alone_pods_have_to_be_known(cluster: ApiServer, tmp_path: Path) -> None:
    developer(cluster)
    done = ask(cluster, tmp_path, "10.0.0.1", "10.0.0.3", "80", user="dev")
    assert done.returncode == 4
    assert b"it takes the right to list pods in all namespaces" in done.stderr


@pytest.mark.parametrize(("source", "destination"), [("10.0.0.1", "10.0.0.3"), ("fd00::1", "fd00::3")])
def test_addresses_are_looked_up(cluster: ApiServer, tmp_path: Path, source: str, destination: str) -> None:
    """The first by what the server selects by, a second one by a list of all."""
    document = json.loads(ask(cluster, tmp_path, "--output", "json", source, destination, "80").stdout)
    assert [end["pod"] for end in document["ends"]] == ["team-a/client", "team-b/web"]
    assert document["allowed"] is False
    assert not any(request.path.endswith("services") for request in cluster.requests("GET"))


def test_a_services_address_is_named(cluster: ApiServer, tmp_path: Path) -> None:
    cluster.services.put({"metadata": {"name": "web", "namespace": "team-b"}, "spec": {"clusterIP": "10.96.0.10"}})
    document = json.loads(ask(cluster, tmp_path, "--output", "json", "team-a/client", "10.96.0.10", "80").stdout)
    assert document["allowed"] is True
    assert any("10.96.0.10 is service team-b/web" in note for note in document["notes"])


def test_other_kinds_of_policies_are_named(cluster: ApiServer, tmp_path: Path) -> None:
    cluster.api.more_groups = ("cilium.io", "policy.networking.k8s.io", "example.com")
    text = ask(cluster, tmp_path, *ASKED).stdout.decode()
    assert (
        "note: policies of other kinds are not looked at, and may count as well: AdminNetworkPolicy,"
        " ClusterNetworkPolicy (policy.networking.k8s.io), Cilium (cilium.io)\n"
    ) in text


def test_an_unknown_pod_of_the_cluster(cluster: ApiServer, tmp_path: Path) -> None:
    done = ask(cluster, tmp_path, "team-a/client", "team-c/web", "80")
    assert done.returncode == 2
    assert done.stderr.decode() == f"kiptail: DESTINATION: there is no pod team-c/web in the cluster at {cluster.url}\n"


def test_a_cluster_that_does_not_answer(cluster: ApiServer, tmp_path: Path) -> None:
    cluster.stop()
    done = ask(cluster, tmp_path, *ASKED)
    assert done.returncode == 4
    assert b"Connection refused" in done.stderr
    missing = run_kiptail("explain", *ASKED, KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path))
    assert missing.returncode == 4


def test_a_credential_that_is_not_accepted(cluster: ApiServer, tmp_path: Path) -> None:
    path = cluster.kubeconfig(tmp_path / "kubeconfig", token="unknown")
    done = run_kiptail("explain", "--kubeconfig", path, *ASKED)
    assert done.returncode == 4
    assert b"401" in done.stderr
    assert b"renew the credential" in done.stderr


def test_long_lists_are_read_page_by_page(cluster: ApiServer, tmp_path: Path) -> None:
    for number in range(1_100):
        cluster.pods.put(workload_pod(f"other-{number}", namespace="team-b", labels={"app": f"x{number}"}))
    document = json.loads(ask(cluster, tmp_path, "--output", "json", *ASKED).stdout)
    assert document["allowed"] is False
    pages = [request for request in cluster.requests("GET") if request.path == "/api/v1/namespaces/team-b/pods"]
    assert len(pages) == 3


@pytest.mark.parametrize("path", ["/apis/networking", "/api/v1/namespaces/team-a", "/apis"])
@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b'{"kind":"List","apiVersion":"v1","items":[]}', b"[]"])
def test_answers_that_are_none_of_an_api_servers(cluster: ApiServer, tmp_path: Path, path: str, body: bytes) -> None:
    cluster.faults.status(200, path=path, text=body.decode())
    done = ask(cluster, tmp_path, *ASKED)
    assert done.returncode == 4
    assert b"none of an API server's" in done.stderr
    assert done.stderr.count(b"\n") == 1
