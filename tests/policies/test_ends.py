"""Pods as objects, and the ends of connections."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kiptail.pods.traits import NamedPort
from kiptail.policies.ends import Connection, Outside, Pod, address_of, pod_of, shown
from kiptail.policies.malformed import Malformed
from tests.support.policies import workload_pod


def test_a_pod_is_reduced_to_what_decides() -> None:
    made = pod_of(
        workload_pod(
            "web-0",
            "10.0.0.1",
            "fd00:0:0::1",
            labels={"app": "web"},
            ports=(
                {"name": "http", "containerPort": 8080},
                {"containerPort": 1},
                {"name": "x", "protocol": "SCTP", "containerPort": 5},
            ),
            owner="StatefulSet/web",
            init=[
                {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 7}]},
                {"ports": [{"name": "no", "containerPort": 8}]},
            ],
        )
    )
    assert made.ref == "team-a/web-0"
    assert made.owner == "StatefulSet/web"
    assert [shown(address) for address in made.addresses] == ["10.0.0.1", "fd00::1"]
    assert made.ports == (NamedPort("http", "TCP", 8080), NamedPort("x", "SCTP", 5), NamedPort("side", "TCP", 7))
    assert made.numbers("http", "TCP") == (8080,)
    assert made.numbers("http", "UDP") == ()
    assert not made.finished
    assert not made.host_network


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_known(phase: str) -> None:
    assert pod_of(workload_pod("job", "10.0.0.1", phase=phase)).finished


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"name": "a", "namespace": "b", "labels": {"x": 1}}},
        {"metadata": {"name": "a"}},
        {"metadata": []},
        {"spec": {"containers": {}}},
        {"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}},
        {"status": {"podIPs": ["10.0.0.1"]}},
    ],
)
def test_what_is_no_pod_is_refused(change: Any) -> None:
    with pytest.raises(Malformed):
        pod_of({**workload_pod("a"), **change})


def test_a_pod_of_the_hosts_network_has_its_nodes_address() -> None:
    made = pod_of(workload_pod("agent", host_network=True, host="198.51.100.9"))
    assert [shown(address) for address in made.addresses] == ["198.51.100.9"]


def test_addresses_that_are_none_are_passed_over() -> None:
    made = pod_of(
        {**workload_pod("a"), "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "x"}, None, {"ip": "fe80::1%eth0"}]}}
    )
    assert made.addresses == ()
    assert pod_of({**workload_pod("a"), "status": {"podIP": "10.0.0.1"}}).addresses != ()


def pod(*addresses: str) -> Pod:
    return pod_of(workload_pod("a", *addresses))


@pytest.mark.parametrize(
    ("source", "destination", "families"),
    [
        (("10.0.0.1",), ("10.0.0.2",), (4,)),
        (("10.0.0.1", "fd00::1"), ("fd00::2", "10.0.0.2"), (4, 6)),
        (("10.0.0.1", "fd00::1"), ("fd00::2",), (6,)),
        (("10.0.0.1",), ("fd00::2",), ()),
        ((), ("fd00::2",), (6,)),
        (("10.0.0.1",), (), (4,)),
        ((), (), (None,)),
    ],
)
def test_the_families_are_those_in_common(source: Any, destination: Any, families: Any) -> None:
    assert Connection(pod(*source), pod(*destination)).families() == families


def test_the_address_is_that_of_the_family() -> None:
    assert address_of(pod("10.0.0.1", "fd00::1"), 6) == ipaddress.ip_address("fd00::1")
    assert address_of(pod("10.0.0.1"), 6) is None
    assert address_of(Outside(ipaddress.ip_address("192.0.2.7")), 4) == ipaddress.ip_address("192.0.2.7")
    assert address_of(Outside(ipaddress.ip_address("192.0.2.7")), None) is None


def test_an_address_has_one_text_in_every_python() -> None:
    assert shown(ipaddress.ip_address("::ffff:10.0.0.1")) == "::ffff:a00:1"
