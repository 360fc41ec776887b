"""Names of nodes and Services: what they cost, and what they do not claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail import clusternames
from kiptail.clusternames import ClusterNames
from kiptail.kubeapi import KubeApi
from kiptail.podranges import PodRanges
from tests.apiserver import ApiServer


def service(name: str, *addresses: str, **spec: Any) -> dict[str, Any]:
    first = {"clusterIP": addresses[0], "clusterIPs": list(addresses)} if addresses else {}
    return {"metadata": {"name": name, "namespace": "team-a"}, "spec": first | spec}


def node(name: str, *addresses: str) -> dict[str, Any]:
    entries = [{"type": "InternalIP", "address": address} for address in addresses]
    return {"metadata": {"name": name}, "status": {"addresses": entries}}


@pytest.fixture
def make(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., ClusterNames]]:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    made: list[ClusterNames] = []

    def start(*, nodes: bool = True) -> ClusterNames:
        made.append(ClusterNames(api, ranges=PodRanges(), nodes=nodes))
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
    monkeypatch.setattr(clusternames, "INTERVAL", 0.2)
    monkeypatch.setattr(clusternames, "INTERVAL_PER_OBJECT", 0.0)
    names = make(nodes=False)
    with pytest.raises(AssertionError):
        server.wait_for(lambda: len(server.requests()) > 1, timeout=0.6)
    server.services.put(service("new", "10.96.0.9"))
    assert names.name("10.96.0.9") == ""
    server.wait_for(lambda: names.name("10.96.0.9") == "service team-a/new")
    assert {request.path for request in server.requests()} == {"/api/v1/services"}


@pytest.mark.parametrize("most", ["MAX_NODES", "MAX_SERVICES"])
def test_what_is_too_long_is_left_after_its_first_page(
    server: ApiServer,
    make: Callable[..., ClusterNames],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(clusternames, most, 20)
    monkeypatch.setattr(clusternames, "PAGE_LIMIT", 10)
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
    monkeypatch.setattr(clusternames, "FIRST_PATIENCE", 0.2)
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
