"""RBAC manifests: what kubectl takes, what the Kubernetes types know, and what the daemon needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.admin.manifests import dedicated, kubelet
from tests.apiserver import ApiServer
from tests.apiserver.access import User
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import ROOT, Kiptail, run_kiptail

SUBJECT = "system:serviceaccount:kube-system:kiptail"
TEXTS = {"dedicated": dedicated(), "kubelet": kubelet()}


def test_the_packaged_manifest_is_what_the_command_prints() -> None:
    assert (ROOT / "packaging" / "rbac.yaml").read_text() == dedicated()
    assert run_kiptail("manifests").stdout.decode() == dedicated()
    assert run_kiptail("manifests", "--identity", "kubelet").stdout.decode() == kubelet()
    elsewhere = run_kiptail("manifests", "--namespace", "monitoring").stdout.decode()
    assert elsewhere == dedicated().replace("kube-system", "monitoring")
    refused = run_kiptail("manifests", "--namespace", "a b")
    assert (refused.returncode, refused.stdout) == (2, b"")


@pytest.mark.live
@pytest.mark.parametrize("identity", ["dedicated", "kubelet"])
def test_kubectl_accepts_them(server: ApiServer, tmp_path: Path, identity: str) -> None:
    kubectl = shutil.which("kubectl", path=f"{os.environ['PATH']}:{ROOT / '.venv' / 'tools'}")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    server.namespaces.put({"metadata": {"name": "kube-system"}})
    admin = server.kubeconfig(tmp_path / "admin")
    printed = run_kiptail("manifests", "--identity", identity).stdout
    done = subprocess.run(
        [kubectl, "--kubeconfig", admin, "--cache-dir", tmp_path / "cache", "apply", "--dry-run=client", "-f", "-"],
        input=printed, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == len(list(yaml.safe_load_all(printed)))


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("identity", ["dedicated", "kubelet"])
def test_the_kubernetes_types_know_every_field(identity: str) -> None:
    """kubectl leaves unknown fields to the server, which drops them silently in some versions."""
    from kubernetes import client  # noqa: PLC0415 - half a second

    types = {"subjects": "RbacV1Subject", "roleRef": "V1RoleRef", "rules": "V1PolicyRule", "metadata": "V1ObjectMeta"}

    def known(cls: Any) -> set[str]:
        if hasattr(cls, "attribute_map"):
            return set(cls.attribute_map.values())
        return {field.alias or name for name, field in cls.model_fields.items()}

    for document in yaml.safe_load_all(TEXTS[identity]):
        assert set(document) <= known(getattr(client, f"V1{document['kind']}"))
        for key, value in document.items():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    name = types[key]
                    cls = getattr(client, name, None) or client.V1Subject
                    assert set(part) <= known(cls), (key, part)


class Cluster:
    """A server that grants what the manifest grants, a pod that lost packets, and a daemon's arguments."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        server.apply(dedicated())
        account = server.serviceaccounts.get("kiptail", namespace="kube-system")
        assert account is not None
        user = User(SUBJECT, ("system:serviceaccounts",), account["metadata"]["uid"])
        token = server.access.add_token(user, lifetime=3_600)
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig", token=token)
        server.pods.put(pod("client", "10.0.0.1"))
        server.pods.put(pod("web-0", "10.0.0.2"))
        self.write(1)

    def write(self, count: int) -> None:
        now = time.time_ns() // 1000
        line = "calico-drop: IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=28 TOS=0x00 PREC=0x00 TTL=63 ID=1 PROTO=UDP"
        line += " SPT=40000 DPT=80 LEN=8 "
        entries = (kernel_entry(line, realtime_us=now + n, monotonic_us=now + n) for n in range(count))
        export_to_journal(entries, self.directory / "journal" / "system.journal")

    def arguments(self) -> tuple[object, ...]:
        return (
            "--kubeconfig", self.kubeconfig, "--journal-directory", self.directory / "journal",
            "--state-directory", self.directory / "state", "--metrics-address", "off",
            "--prefix", "calico-drop:", "--node-name", "worker-3",
        )  # fmt: skip

    def check(self) -> str:
        done = run_kiptail("check", *self.arguments()[:6], *self.arguments()[8:])
        return done.stdout.decode()


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return Cluster(server, tmp_path)


def counts(server: ApiServer) -> list[int]:
    return sorted(event["count"] for event in server.events())


@pytest.mark.timeout(120)
def test_with_these_rights_and_no_more_the_daemon_works(cluster: Cluster) -> None:
    with Kiptail(cluster.directory, *cluster.arguments()) as kiptail:
        kiptail.wait_for(lambda: counts(cluster.server) == [1, 1], "two Events")
        cluster.write(2)
        kiptail.wait_for(lambda: counts(cluster.server) == [3, 3], "updates")
        assert "cannot be renewed" not in kiptail.log
        assert kiptail.stop() == 0
    assert cluster.server.requests(status=403) == []
    told = cluster.check()
    assert (
        "may list pods of its node, watch pods of its node, list pods, create events, patch events, list nodes,"
        " list services, list networkpolicies, get namespaces, renew its token"
    ) in told


RIGHTS: list[tuple[str, str, str, Callable[[str], bool]]] = [
    ("list", "pods", "list pods of its node", lambda log: "does not allow this credential to list pods with" in log),
    ("watch", "pods", "watch pods of its node", lambda log: "does not allow this credential to watch pods with" in log),
    ("create", "events", "create events", lambda log: "does not allow this credential to create events" in log),
    ("patch", "events", "patch events", lambda log: "does not allow this credential to patch events" in log),
    ("create", "serviceaccounts/token", "renew its token", lambda log: "cannot be renewed and expires" in log),
]
#: Rights without which Events tell less, and what then.
OPTIONAL = {
    ("list", "nodes"): "so Events show the addresses of nodes without a name",
    ("list", "services"): "so Events show the addresses of services without a name",
    ("list", "networkpolicies"): "so Events do not say which NetworkPolicies are in the way",
    ("get", "namespaces"): "so Events do not say so where NetworkPolicies select namespaces by labels, and no namespace"
    " opts out",
}


@pytest.mark.parametrize(("verb", "resource", "right", "said"), RIGHTS, ids=[row[2] for row in RIGHTS])
def test_each_right_that_is_missing_is_named(
    cluster: Cluster, verb: str, resource: str, right: str, said: Callable[[str], bool]
) -> None:
    """By the daemon, which does not start without it (and runs until its token expires without the last)."""
    cluster.server.revoke(SUBJECT, verb, resource)
    kiptail = Kiptail(cluster.directory, *cluster.arguments())
    if resource == "serviceaccounts/token":
        with kiptail:
            kiptail.wait_for(lambda: said(kiptail.log), "a word about the right")
            kiptail.wait_for(lambda: any("cannot be renewed" in note for note in kiptail.notes), "STATUS", timeout=15)
    else:
        assert kiptail.ended(30) == 4
        kiptail._socket.close()
        assert said(kiptail.log), kiptail.log
    assert f"may not {right}, " in cluster.check()


def test_every_right_is_tried() -> None:
    granted = set()
    for document in yaml.safe_load_all(dedicated()):
        for rule in document.get("rules", ()):
            granted |= {(verb, resource) for verb in rule["verbs"] for resource in rule["resources"]}
    assert granted == {(verb, resource) for verb, resource, _, _ in RIGHTS} | OPTIONAL.keys()


@pytest.mark.parametrize(("verb", "resource"), OPTIONAL)
def test_what_is_optional_is_told_by_check_and_not_needed(cluster: Cluster, verb: str, resource: str) -> None:
    cluster.server.revoke(SUBJECT, verb, resource)
    with Kiptail(cluster.directory, *cluster.arguments()) as kiptail:
        kiptail.wait_for(lambda: counts(cluster.server) == [1, 1], "two Events")
    assert f"may not {verb} {resource}, {OPTIONAL[verb, resource]}" in cluster.check()
