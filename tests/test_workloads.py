"""Workloads, further addresses and port names, from the objects that a cluster shows to the Events: a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import run_kiptail

T0 = 1_795_000_000_000_000
LINE = (
    "calico-drop: IN=a OUT=b MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)


def made_by(kind: str, owner: str, name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    """A pod as its controller makes it."""
    labels = {"app": owner, **more.pop("labels", {})}
    api = "batch/v1" if kind == "Job" else "apps/v1"
    reference = {"apiVersion": api, "kind": kind, "name": owner, "uid": "5f0c8b1e-9c1d-4b1e-8a52-0c6f3c1f6d11",
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    return pod(name, *addresses, uid=f"uid-{name}", labels=labels, ownerReferences=[reference], **more)


def with_ports(obj: dict[str, Any], *ports: dict[str, Any]) -> dict[str, Any]:
    obj["spec"]["containers"][0]["ports"] = list(ports)
    return obj


WEB = [
    made_by("ReplicaSet", "web-5d4f8c7b9", f"web-5d4f8c7b9-x2x{n}z", f"10.0.0.{n}",
            labels={"pod-template-hash": "5d4f8c7b9"})
    for n in range(1, 6)
]  # fmt: skip
DB = with_ports(
    made_by("StatefulSet", "db", "db-0", "10.0.1.1", namespace="team-b"), {"name": "sql", "containerPort": 5432}
)
BACKUP = made_by("Job", "backup-29913480", "backup-29913480-abcde", "10.0.2.1")
STORAGE = pod(
    "store", "10.0.3.1", uid="uid-store", namespace="team-c",
    annotations={"k8s.v1.cni.cncf.io/network-status": json.dumps([
        {"name": "cbr0", "interface": "eth0", "ips": ["10.0.3.1"], "default": True},
        {"name": "team-c/storage", "interface": "net1", "ips": ["192.168.77.12"]},
    ])},
)  # fmt: skip
FORGER_STATUS = json.dumps([{"ips": ["10.0.1.1", "198.51.100.3"]}])
FORGER = pod(
    "forger",
    "10.0.3.2",
    uid="uid-forger",
    namespace="team-x",
    annotations={"k8s.v1.cni.cncf.io/network-status": FORGER_STATUS},
)
PROXY = with_ports(
    pod("proxy", "10.0.3.3", uid="uid-proxy", namespace="team-b"), {"containerPort": 80, "hostPort": 8080}
)
SERVICE = {
    "kind": "Service",
    "metadata": {"namespace": "team-a", "name": "api"},
    "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "https", "port": 443}]},
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sent = [(f"10.0.0.{n}", "10.0.1.1", 5432) for n in range(1, 6)] * 2
    sent += [("10.0.2.1", "192.168.77.12", 2049), ("10.0.2.1", "10.96.0.7", 443), ("10.0.2.1", "198.51.100.3", 8080)]
    lines = (LINE.format(src=src, dst=dst, port=port) for src, dst, port in sent)
    path = tmp_path_factory.mktemp("journal") / "recorded.journal"
    entries = (
        kernel_entry(line, realtime_us=T0 + n * 1_000_000, monotonic_us=10_000_000 + n * 1_000_000)
        for n, line in enumerate(lines)
    )
    export_to_journal(entries, path)
    return path


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pods") / "pods.json"
    items = [*WEB, DB, BACKUP, STORAGE, FORGER, PROXY, SERVICE]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


def events(journal: Path, snapshot: Path, *more: str) -> dict[str, list[dict[str, Any]]]:
    """By pod."""
    done = run_kiptail(
        "--dry-run", "--no-follow", "--journal-file", journal, "--pods", snapshot, "--prefix", "calico-drop:",
        "--output", "json", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)["event"]
        found.setdefault(event["involvedObject"]["name"], []).append(event)
    return found


def test_each_event_names_workloads_ports_and_how_many_fare_alike(journal: Path, snapshot: Path) -> None:
    found = events(journal, snapshot)
    for n in range(1, 6):
        (event,) = found[f"web-5d4f8c7b9-x2x{n}z"]
        assert event["message"] == (
            "Packet dropped when sending traffic to team-b/db-0 (10.0.1.1) on port 5432/TCP (sql)"
            " (also more than 2 other pods of deploy/web)"
        )
        assert event["count"] == 2
        said = json.loads(event["metadata"]["annotations"]["kiptail/flow"])
        assert (said["workload"], said["peer_workload"], said["port_name"]) == ("deploy/web", "sts/db", "sql")
    assert sorted(event["message"] for event in found["db-0"]) == [
        f"Packet dropped when receiving traffic from team-a/web-5d4f8c7b9-x2x{n}z (10.0.0.{n}) on port 5432/TCP (sql)"
        for n in range(1, 6)
    ], "it is the only pod of its workload"
    assert sorted(event["message"] for event in found["backup-29913480-abcde"]) == [
        "Packet dropped when sending traffic to node/worker-3 (198.51.100.3) on port 8080/TCP"
        " (a host port of team-b/proxy)",
        "Packet dropped when sending traffic to service team-a/api (10.96.0.7) on port 443/TCP (https)",
        "Packet dropped when sending traffic to team-c/store (192.168.77.12) on port 2049/TCP",
    ]
    assert [event["message"] for event in found["store"]] == [
        "Packet dropped when receiving traffic from team-a/backup-29913480-abcde (10.0.2.1) on port 2049/TCP"
    ]
    assert "proxy" not in found, "a node's address is nobody's fault"
    assert "forger" not in found, "what an annotation claims of others' is not believed"


def test_peers_are_called_by_their_workloads_where_that_is_asked_for(journal: Path, snapshot: Path) -> None:
    found = events(journal, snapshot, "--pod-identifier", "workload")
    assert {event["message"].split(" (10.")[0] for event in found["db-0"]} == {
        "Packet dropped when receiving traffic from team-a/deploy/web"
    }
    assert [event["message"] for event in found["store"]] == [
        "Packet dropped when receiving traffic from team-a/cronjob/backup (10.0.2.1) on port 2049/TCP"
    ]
    assert "team-c/pod/store (192.168.77.12)" in " ".join(e["message"] for e in found["backup-29913480-abcde"])
