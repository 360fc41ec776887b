"""Where a report's pods come from."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from kiptail.config.settings import Settings, resolve
from kiptail.errors import ClusterError
from kiptail.pods.snapshot import Snapshot
from kiptail.report.known_pods import known_pods
from tests.apiserver import ApiServer
from tests.support.pods import pod


def configured(directory: Path, **flags: Any) -> Settings:
    config = directory / "kiptail.toml"
    config.write_text("")
    given = {"config": str(config), "prefix": ["drop:"], "dry_run": True, "node_name": "worker-3"}
    given |= {"state_directory": str(directory), "kubeconfig": str(directory / "none")}
    return resolve(given | {key: str(value) for key, value in flags.items()}, {}, now_us=10**15)


def names(snapshot: Snapshot | None) -> list[str]:
    assert snapshot is not None
    return sorted(pod.ref.name for pod in snapshot.pods)


def test_a_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"items": [pod("web-0", "10.0.0.2", uid="u")]}))
    assert names(known_pods(configured(tmp_path, pods=tmp_path / "pods.json"), demanded=False)) == ["web-0"]


def test_the_cluster_is_asked_once(server: ApiServer, tmp_path: Path) -> None:
    owner = {"kind": "StatefulSet", "name": "web", "controller": True}
    for n in range(300):
        server.pods.put(pod(f"web-{n}", f"10.0.1.{n % 250}", ownerReferences=[owner]))
    server.services.put({"metadata": {"namespace": "team-a", "name": "db"}, "spec": {"clusterIP": "10.96.0.5"}})
    server.nodes.put(
        {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
    )
    found = known_pods(configured(tmp_path, kubeconfig=server.kubeconfig(tmp_path / "k")), demanded=True)
    assert found is not None
    assert len(found.pods) == 300
    assert found.workloads["team-a", "web-7"] == "sts/web"
    assert found.names == {"10.96.0.5": "service team-a/db", "192.0.2.7": "node/n"}


def test_names_can_be_done_without(server: ApiServer, tmp_path: Path) -> None:
    server.pods.put(pod("web-0", "10.0.0.2"))
    with server.faults.status(403, path="/api/v1/services"), server.faults.status(403, path="/api/v1/nodes"):
        found = known_pods(configured(tmp_path, kubeconfig=server.kubeconfig(tmp_path / "k")), demanded=True)
    assert names(found) == ["web-0"]
    assert found is not None
    assert not found.names


def test_who_may_list_its_nodes_pods_only_gets_those(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.pods.put(pod("here", "10.0.0.2"))
    server.pods.put(pod("there", "10.0.1.2", node="worker-4"))
    with server.faults.status(403, path="/api/v1/pods", match=lambda request: "fieldSelector" not in request.query):
        found = known_pods(configured(tmp_path, kubeconfig=server.kubeconfig(tmp_path / "k")), demanded=False)
    assert names(found) == ["here"]
    assert "only the pods of node worker-3" in caplog.text


def test_without_a_kubeconfig_there_are_addresses_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert known_pods(configured(tmp_path), demanded=False) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "there is neither --pods nor a kubeconfig, so packets are reported by addresses alone"
    )


@pytest.mark.parametrize("broken", ["no YAML", "no answer"])
def test_a_cluster_that_nobody_named_may_be_away(
    broken: str, server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kubeconfig = server.kubeconfig(tmp_path / "k")
    if broken == "no YAML":
        kubeconfig.write_text("{")
    with server.faults.status(503, path="/api/v1/pods"):
        assert known_pods(configured(tmp_path, kubeconfig=kubeconfig), demanded=False) is None
        with pytest.raises(ClusterError):
            known_pods(configured(tmp_path, kubeconfig=kubeconfig), demanded=True)
    assert len(caplog.records) == 1
    assert "addresses alone (see --pods)" in caplog.text


def test_whoever_wants_to_sees_each_object_and_the_namespaces_of_pods(server: ApiServer, tmp_path: Path) -> None:
    server.pods.put(pod("web-0", "10.0.0.2"))
    server.pods.put(pod("db-0", "10.0.0.3", namespace="team-b"))
    server.namespaces.put({"metadata": {"name": "team-a", "labels": {"team": "a"}}})
    seen: list[tuple[str, str]] = []

    def also(obj: dict[str, Any], kind: str) -> bool:
        seen.append((kind, obj["metadata"]["name"]))
        return False

    settings = configured(tmp_path, kubeconfig=server.kubeconfig(tmp_path / "k"))
    known_pods(settings, demanded=True, also=also)
    # The test API server makes a namespace for each object.
    assert sorted(seen) == [("Namespace", "team-a"), ("Namespace", "team-b"), ("Pod", "db-0"), ("Pod", "web-0")]
    with server.faults.status(403, path="/api/v1/namespaces/"):
        assert names(known_pods(settings, demanded=True, also=also)) == ["db-0", "web-0"]


def test_kinds_of_a_file_that_are_of_use_to_somebody_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = [
        pod("web-0", "10.0.0.2", uid="u"),
        {"kind": "Namespace", "metadata": {"name": "team-a"}},
        {"kind": "Secret"},
    ]
    (tmp_path / "pods.json").write_text(json.dumps({"items": items}))
    settings = configured(tmp_path, pods=tmp_path / "pods.json")
    known_pods(settings, demanded=False, also=lambda obj, kind: (obj.get("kind") or kind) == "Namespace")
    assert "1 of 3 items are not used: 1 of another kind" in caplog.text
    caplog.clear()
    known_pods(settings, demanded=False)
    assert "2 of 3 items are not used: 2 of another kind" in caplog.text
