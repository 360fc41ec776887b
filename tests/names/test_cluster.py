"""Names of nodes and Services: what they cost, and what they do not claim."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.kube.api import KubeApi
from kiptail.names import cluster, unnamed
from kiptail.names.cluster import ClusterNames
from kiptail.pods.ranges import PodRanges
from tests.apiserver import ApiServer


def service(name: str, *addresses: str, namespace: str = "team-a", **spec: Any) -> dict[str, Any]:
    first = {"clusterIP": addresses[0], "clusterIPs": list(addresses)} if addresses else {}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": first | spec}


def node(name: str, *addresses: str) -> dict[str, Any]:
    entries = [{"type": "InternalIP", "address": address} for address in addresses]
    return {"metadata": {"name": name}, "status": {"addresses": entries}}


@pytest.fixture
def make(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., ClusterNames]]:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    made: list[ClusterNames] = []

    def start(*, nodes: bool = True, **options: Any) -> ClusterNames:
        made.append(ClusterNames(api, ranges=PodRanges(), nodes=nodes, **options))
        made[-1].start()
        server.wait_for(made[-1].settled)
        return made[-1]

    yield start
    for names in made:
        names.stop()
    api.close()


def test_both_families_are_named(server: ApiServer, make: Callable[..., ClusterNames]) -> None:
    server.services.put(service("db", "10.96.0.5", "fd00:96::5"))
    server.nodes.put(node("worker-7", "192.0.2.7", "2001:DB8::7"))
    names = make()
    assert names.name("fd00:96::5") == names.name("10.96.0.5") == "service team-a/db"
    assert names.name("2001:db8::7") == names.name("192.0.2.7") == "node/worker-7"
    assert names.name("192.0.2.8") == ""


def test_a_service_names_no_address_that_it_only_claims(server: ApiServer, make: Callable[..., ClusterNames]) -> None:
    """Whoever may create a Service can write any address into externalIPs, and any name into externalName."""
    server.services.put(service("a", "10.96.0.5", externalIPs=["198.51.100.1"]))
    server.services.put(service("b", type="ExternalName", externalName="198.51.100.2"))
    server.services.put(service("c", "None"))
    names = make()
    assert [names.name(address) for address in ("198.51.100.1", "198.51.100.2", "None")] == ["", "", ""]


def test_the_services_range_is_what_they_show(server: ApiServer, make: Callable[..., ClusterNames]) -> None:
    for n, address in enumerate(("10.96.0.1", "10.96.200.1", "fd00:96::1", "fd00:96::2")):
        server.services.put(service(f"s{n}", address))
    names = make()
    assert names.no_pod("10.96.77.77")
    assert not names.no_pod("10.97.0.1")
    assert names.no_pod("fd00:96::3")
    assert not names.no_pod("fd00:96::4")


def test_lists_are_read_again_only_while_somebody_asks(
    server: ApiServer, make: Callable[..., ClusterNames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "INTERVAL", 0.2)
    monkeypatch.setattr(cluster, "INTERVAL_PER_OBJECT", 0.0)
    names = make(nodes=False)
    with pytest.raises(AssertionError):
        server.wait_for(lambda: len(server.requests()) > 1, timeout=0.6)
    server.services.put(service("new", "10.96.0.9"))
    assert names.name("10.96.0.9") == ""
    server.wait_for(lambda: names.name("10.96.0.9") == "service team-a/new")
    assert {request.path for request in server.requests()} == {"/api/v1/services"}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early lists without their delay, and little between them."""
    monkeypatch.setattr(cluster, "EARLY_AFTER", (0.0, 0.0))
    monkeypatch.setattr(unnamed, "PACE", 0.1)
    monkeypatch.setattr(unnamed, "PAUSE", 0.1)


def lists(server: ApiServer, plural: str) -> int:
    return len(server.requests("GET", f"/api/v1/{plural}"))


@pytest.mark.usefixtures("soon")
def test_a_new_service_is_named_soon_and_nodes_are_not_read_for_it(
    server: ApiServer, make: Callable[..., ClusterNames]
) -> None:
    server.services.put(service("kubernetes", "10.96.0.1", namespace="default"))
    server.nodes.put(node("worker-7", "192.0.2.7"))
    changed = threading.Event()
    names = make(on_change=changed.set)
    server.wait_for(changed.is_set)
    changed.clear()
    server.services.put(service("new", "10.107.3.4"))
    assert names.name("10.107.3.4") == ""
    server.wait_for(changed.is_set)
    assert names.name("10.107.3.4") == "service team-a/new"
    assert (lists(server, "services"), lists(server, "nodes")) == (2, 1)


@pytest.mark.usefixtures("soon")
def test_a_new_node_is_named_soon_also_when_it_registers_only_after_the_question(
    server: ApiServer, make: Callable[..., ClusterNames]
) -> None:
    server.nodes.put(node("worker-7", "192.0.2.7"))
    server.services.put(service("db", "10.96.0.5"))
    names = make()
    assert names.name("192.0.2.8") == ""
    server.wait_for(lambda: lists(server, "nodes") == 3)
    server.nodes.put(node("worker-8", "192.0.2.8"))
    server.wait_for(lambda: names.name("192.0.2.8") == "node/worker-8")
    assert lists(server, "services") == 1


@pytest.mark.usefixtures("soon")
def test_an_address_that_is_a_pods_or_a_strangers_has_nothing_listed(
    server: ApiServer, make: Callable[..., ClusterNames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "EARLY_AFTER", (1.0, 1.0))
    external = {"type": "ExternalIP", "address": "203.0.113.7"}
    server.nodes.put(node("worker-7", "192.0.2.7"))
    server.nodes.put({"metadata": {"name": "worker-9"}, "status": {"addresses": [external]}})
    names = make()
    assert names.name("203.0.113.7") == "node/worker-9"
    for address in ("203.0.113.8", "198.51.100.1", "2001:db8::1", "no address"):
        assert names.name(address) == ""
    assert names.name("192.0.2.8") == ""
    names.note_pods(["192.0.2.8"])
    with pytest.raises(AssertionError):
        server.wait_for(lambda: lists(server, "nodes") > 1, timeout=1.3)
    assert names.name("192.0.2.9") == ""
    server.wait_for(lambda: lists(server, "nodes") == 2)


@pytest.mark.usefixtures("soon")
def test_on_change_runs_for_a_new_name_and_for_another_one_only(
    server: ApiServer, make: Callable[..., ClusterNames], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.services.put(service("db", "10.96.0.5"))
    server.services.put(service("gone", "10.96.0.6"))
    changes: list[int] = []
    names = make(nodes=False, on_change=lambda: changes.append(lists(server, "services")))
    server.wait_for(lambda: changes == [1])
    server.services.delete("gone", namespace="team-a")
    names.name("10.96.0.77")
    server.wait_for(lambda: lists(server, "services") >= 3)
    server.services.put(service("other", "10.96.0.6"))
    at = lists(server, "services")
    server.wait_for(lambda: len(changes) == 2)
    assert changes[0] == 1
    assert changes[1] >= at, "not when it was gone"
    assert names.name("10.96.0.6") == "service team-a/other"


@pytest.mark.usefixtures("soon")
def test_without_the_right_nothing_is_listed_early_and_the_nodes_are_unknown(
    server: ApiServer, tmp_path: Path, make: Callable[..., ClusterNames]
) -> None:
    for n in range(3):
        server.nodes.put(node(f"n{n}", f"192.0.2.{n}"))
    assert make().known_nodes == 3
    assert make(nodes=False).known_nodes is None
    before = lists(server, "nodes")
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "kubelet", token=server.add_user("system:node:n1")))
    names = ClusterNames(api, ranges=PodRanges(), nodes=True)
    assert names.known_nodes is None
    names.start()
    server.wait_for(names.settled)
    for n in range(10):
        assert names.name(f"192.0.2.{n}") == ""
    with pytest.raises(AssertionError):
        server.wait_for(lambda: lists(server, "nodes") > before + 1, timeout=0.5)
    assert names.known_nodes is None
    names.stop()
    api.close()


@pytest.mark.usefixtures("soon")
def test_a_flow_that_asked_once_while_the_server_was_away_is_answered_later(
    server: ApiServer, make: Callable[..., ClusterNames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FAILED_RETRY", 0.2)
    server.services.put(service("db", "10.96.0.5"))
    changes: list[bool] = []
    with server.faults.status(503):
        names = make(nodes=False, on_change=lambda: changes.append(True))
        assert names.name("10.96.0.5") == ""
        assert not changes
    server.wait_for(lambda: changes)
    assert names.name("10.96.0.5") == "service team-a/db"


@pytest.mark.parametrize("most", ["MAX_NODES", "MAX_SERVICES"])
def test_what_is_too_long_is_left_after_its_first_page(
    server: ApiServer,
    make: Callable[..., ClusterNames],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(cluster, most, 20)
    monkeypatch.setattr(cluster, "PAGE_LIMIT", 10)
    for n in range(30):
        server.nodes.put(node(f"n{n}", f"192.0.2.{n}"))
        server.services.put(service(f"s{n}", f"10.96.0.{n}"))
    names = make()
    kept = names.name("10.96.0.7"), names.name("192.0.2.7")
    assert kept == (("service team-a/s7", "") if most == "MAX_NODES" else ("", "node/n7"))
    assert len(server.requests()) == 1 + 3
    assert "there are more than 20" in caplog.text


def test_a_server_that_hangs_is_not_waited_for_long(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FIRST_PATIENCE", 0.2)
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    names = ClusterNames(api, ranges=PodRanges(), nodes=True)
    with server.faults.hang():
        names.start()
        assert not names.settled()
        server.wait_for(names.settled)
        assert names.name("10.96.0.1") == ""
        names.stop(timeout=0.0)
        api.close()
    names.stop()


def test_a_services_ports_have_its_names(server: ApiServer, make: Callable[..., ClusterNames]) -> None:
    long = "grpc-of-the-admin-interface"
    ports: list[Any] = [
        {"name": "https", "port": 443},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": long, "port": 9},
        {"name": "x\x1b[2J", "port": 10},
        {"name": "odd", "port": "11"},
        {"port": 12},
        None,
    ]
    server.services.put(service("db", "10.96.0.5", "fd00:96::5", ports=ports))
    names = make()
    asked = [("TCP", 443), ("UDP", 443), ("UDP", 53), ("TCP", 9), ("TCP", 10), ("TCP", 11), ("TCP", 12)]
    for address in ("10.96.0.5", "fd00:96::5"):
        assert [names.port_name(address, *each) for each in asked] == ["https", "", "dns", long, "", "", ""]
    assert names.port_name("10.96.0.6", "TCP", 443) == ""
