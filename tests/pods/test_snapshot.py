"""Pods from a file, as a dry run reads them."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import SettingsError
from kiptail.events.endpoint import When
from kiptail.events.locator import Locator
from kiptail.pods import snapshot
from kiptail.pods.snapshot import SnapshotIndex, load_snapshot
from tests.support.pods import pod

WEB = pod("web-0", "10.0.0.2", uid="u2")
NODE = {
    "kind": "Node",
    "metadata": {"name": "worker-9"},
    "status": {"addresses": [{"type": "InternalIP", "address": "198.51.100.9"}, {"type": "Hostname", "address": "w"}]},
}
SERVICE = {
    "kind": "Service",
    "metadata": {"namespace": "team-a", "name": "db"},
    "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"], "externalIPs": ["192.0.2.7"]},
}
HEADLESS = {"kind": "Service", "metadata": {"namespace": "team-a", "name": "h"}, "spec": {"clusterIP": "None"}}
ESCAPES = "web\x1b]0;owned\x07\x1b[2J"


def without(obj: dict[str, Any], *path: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(obj))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


def write(directory: Path, document: object) -> Path:
    path = directory / "pods.json"
    path.write_text(json.dumps(document))
    return path


def load(directory: Path, items: list[Any], kind: str = "List") -> SnapshotIndex:
    return SnapshotIndex(load_snapshot(write(directory, {"kind": kind, "items": items}), label=None), now_us=0)


def owner(index: SnapshotIndex, address: str) -> list[str]:
    return [ref.name for ref in index.owners.owned(address, 1_800_000_000_000_000).pods]


def test_nodes_and_services_in_the_list_give_names_as_the_cluster_does(tmp_path: Path) -> None:
    index = load(tmp_path, [SERVICE, WEB, NODE, HEADLESS])
    names = {
        address: index.owners.name(address) for address in ("198.51.100.9", "10.96.0.7", "fd00:96::7", "192.0.2.7")
    }
    assert names == {
        "198.51.100.9": "node/worker-9",
        "10.96.0.7": "service team-a/db",
        "fd00:96::7": "service team-a/db",
        "192.0.2.7": "",
    }
    assert index.owners.name("198.51.100.3") == "node/worker-3", "of a pod's host"
    assert owner(index, "10.0.0.2") == ["web-0"]


def test_a_list_of_the_api_server_names_no_kinds(tmp_path: Path) -> None:
    assert owner(load(tmp_path, [without(WEB, "kind")], "PodList"), "10.0.0.2") == ["web-0"]
    assert load(tmp_path, [without(NODE, "kind")], "NodeList").owners.name("198.51.100.9") == "node/worker-9"
    assert load(tmp_path, [without(SERVICE, "kind")], "ServiceList").owners.name("10.96.0.7") == "service team-a/db"


def test_one_pod_needs_no_list(tmp_path: Path) -> None:
    index = SnapshotIndex(load_snapshot(write(tmp_path, WEB), label=None), now_us=0)
    assert owner(index, "10.0.0.2") == ["web-0"]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        pytest.param(pod("a", "10.0.0.1"), "1 without metadata.uid", id="no uid"),
        pytest.param(pod("a", "10.0.0.1", uid=""), "1 without metadata.uid", id="empty uid"),
        pytest.param(pod("a", "10.0.0.1", uid="a b"), "1 without a usable metadata.uid", id="uid with a blank"),
        pytest.param(pod(ESCAPES, "10.0.0.1", uid="u"), "1 without a usable metadata.name", id="escapes"),
        pytest.param(pod("a", namespace=ESCAPES, uid="u"), "1 without a usable metadata.namespace", id="its namespace"),
        pytest.param(pod("a", "10.0.0.1", uid=7), "1 with a uid of the wrong type", id="a number"),
        pytest.param({"kind": "Pod"}, "1 without metadata.uid", id="nothing"),
        pytest.param({"kind": "Deployment"}, "1 of another kind", id="another kind"),
        pytest.param({"kind": ESCAPES}, "1 of another kind", id="escapes in the kind"),
        pytest.param("pod", "1 no object", id="a text"),
    ],
)
def test_items_that_cannot_be_used_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, item: Any, told: str
) -> None:
    with caplog.at_level(logging.WARNING, "kiptail.pods.snapshot"):
        index = load(tmp_path, [WEB, item])
    assert owner(index, "10.0.0.2") == ["web-0"]
    (record,) = caplog.records
    assert record.getMessage() == f"--pods: {tmp_path}/pods.json: 1 of 2 items are not used: {told}"


def test_a_list_without_pods_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(snapshot.MOST_BYTES + 1)
    return path


def link(directory: Path, target: Path) -> Path:
    path = directory / "link"
    path.symlink_to(target)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REFUSED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("nothing there", lambda d: d / "none", "No such file"),
    ("a pipe that nobody writes to", lambda d: fifo(d / "pipe"), "no regular file"),
    ("an endless device", lambda d: Path("/dev/zero"), "no regular file"),
    ("a directory", lambda d: d, "directory"),
    ("an endless file", lambda d: sparse(d / "large"), "MiB"),
    ("a symlink to a pipe", lambda d: link(d, fifo(d / "pipe")), "no regular file"),
    ("a symlink to itself", lambda d: link(d, d / "link"), "symbolic"),
    ("an empty device", lambda d: Path("/dev/null"), "no JSON"),
    ("no JSON", lambda d: written(d / "f", b"NAME READY"), "no JSON"),
    ("bytes", lambda d: written(d / "f", b"\xff\x00\xfe"), "no JSON"),
    ("nothing in it", lambda d: written(d / "f", b""), "no JSON"),
    ("a long number", lambda d: written(d / "f", b'{"items":[' + b"1" * 10_000 + b"]}"), "no JSON"),
    ("deep", lambda d: written(d / "f", b"[" * 100_000), "no JSON"),
    ("another object", lambda d: written(d / "f", b'{"kind":"Deployment"}'), "no list of pods"),
    ("a text", lambda d: written(d / "f", b'"items"'), "no list of pods"),
    ("a name with escapes", lambda d: d / ESCAPES, "No such file"),
]


@pytest.mark.parametrize(("make", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_snapshot_is_refused_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(SettingsError) as caught:
        load_snapshot(path, label=None)
    text = str(caught.value)
    assert text.startswith("--pods: ")
    assert told in text
    assert text.endswith("make it with `kubectl get pods -A -o json > FILE`")
    assert text.isprintable()


def test_a_pipe_that_was_passed_on_is_read(tmp_path: Path) -> None:
    """As ``--pods <(kubectl …)`` does, whose kubectl takes its time."""
    readable, writable = os.pipe()

    def kubectl() -> None:
        with open(writable, "wb") as pipe:
            pipe.write(json.dumps({"items": [WEB]}).encode())

    writer = threading.Timer(0.2, kubectl)
    writer.start()
    try:
        found = load_snapshot(Path(f"/dev/fd/{readable}"), label=None)
    finally:
        writer.join()
        os.close(readable)
    assert [found.ref.name for found in found.pods] == ["web-0"]


def test_a_pipe_without_an_end_is_read_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_BYTES", 1 << 20)
    readable, writable = os.pipe()

    def endless() -> None:
        try:
            while True:
                os.write(writable, b"y\n" * 4_096)
        except BrokenPipeError:
            os.close(writable)

    writer = threading.Thread(target=endless)
    writer.start()
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load_snapshot(Path(f"/dev/fd/{readable}"), label=None)
    os.close(readable)
    writer.join(10)
    assert not writer.is_alive()


def test_ports_are_called_as_pods_and_services_call_them(tmp_path: Path) -> None:
    web: dict[str, Any] = json.loads(json.dumps(WEB))
    web["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    db = SERVICE | {"spec": SERVICE["spec"] | {"ports": [{"name": "sql", "port": 5432}]}}
    owners = load(tmp_path, [web, db]).owners
    assert owners.ports.called("10.0.0.2", "u2", "TCP", 8080) == "http"
    assert owners.ports.called("10.0.0.2", "u3", "TCP", 8080) == ""
    assert owners.ports.called("fd00:96::7", "", "TCP", 5432) == "sql"
    assert owners.ports.called("10.0.0.2", "", "TCP", 8080) == ""


def test_further_addresses_are_a_pods_unless_another_has_them(tmp_path: Path) -> None:
    def claiming(name: str, *claims: str, own: str) -> dict[str, Any]:
        status = json.dumps([{"name": "net", "ips": claims}])
        return pod(name, own, uid=name, annotations={"k8s.v1.cni.cncf.io/network-status": status})

    items = [
        WEB,
        claiming("a", "192.168.7.1", "192.168.7.2", "10.0.0.2", own="10.0.0.3"),
        claiming("b", "192.168.7.2", own="10.0.0.4"),
        claiming("c", "no address", own="10.0.0.5"),
    ]
    index = load(tmp_path, items)
    found = {}
    for address in ("192.168.7.1", "192.168.7.2", "10.0.0.2", "10.0.0.3"):
        located = Locator(index.owners, lambda address: "").locate(address, When(1_800_000_000_000_000), patient=True)
        found[address] = [ref.name for ref in located.pods] if located is not None else []
    assert found == {"192.168.7.1": ["a"], "192.168.7.2": ["a", "b"], "10.0.0.2": ["web-0"], "10.0.0.3": ["a"]}
    assert index.stats().malformed == 1
