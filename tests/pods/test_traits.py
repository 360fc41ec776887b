"""What NetworkPolicies look at of a pod: read, bounded, and shared by the pods of a workload."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.traits import NamedPort, SharedTraits, Traits, name_of_port, named_ports
from tests.support.pods import pod

LABELS = {"app": "web", "pod-template-hash": "5d4f8c7b9"}


def made(**spec: Any) -> dict[str, Any]:
    obj = pod("web-0", "10.0.0.1", labels=dict(LABELS), uid="u1")
    obj["spec"] |= spec
    return obj


def test_labels_and_named_ports_are_kept() -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"containerPort": 9}, {"name": "x", "containerPort": 0}]
    obj = made(
        containers=[{"ports": ports}, {}],
        initContainers=[
            {"ports": [{"name": "once", "containerPort": 1}]},
            {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 7, "protocol": "UDP"}]},
        ],
    )
    found = SharedTraits().of(obj)
    assert found is not None
    assert found.labels == LABELS
    assert found.ports == (NamedPort("http", "TCP", 8080), NamedPort("side", "UDP", 7))


def test_pods_of_a_workload_share_them_and_others_do_not() -> None:
    shared = SharedTraits()
    first, second = shared.of(made()), shared.of(made())
    assert first is second
    assert shared.of(pod("b", labels={"app": "db"})) != first
    assert shared.of(pod("c")) == Traits()


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"ports": [{"name": f"p{n}", "containerPort": n + 1} for n in range(65)]}]},
        {"containers": [{"ports": [{"name": "http", "containerPort": "80"}]}]},
        {"containers": "all"},
    ],
    ids=["too many ports", "a port that is no number", "no containers"],
)
def test_what_cannot_be_used_is_not_known(spec: dict[str, Any]) -> None:
    assert SharedTraits().of(made(**spec)) is None


@pytest.mark.parametrize(
    "labels", [{f"k{n}": "" for n in range(257)}, {"k": "v" * 17_000}], ids=["many labels", "a long one"]
)
def test_labels_are_bounded(labels: dict[str, str]) -> None:
    assert SharedTraits().of(pod("a", labels=labels)) is None


def test_ports_of_nothing() -> None:
    assert list(named_ports({"containers": None, "initContainers": [None]})) == []
    assert list(named_ports({"containers": [None, {"ports": [None]}]})) == []


def test_a_pod_has_them_where_they_are_asked_for() -> None:
    plain, detailed = reduce_pod(made()), reduce_pod(made(), traits=SharedTraits())
    assert plain is not None
    assert detailed is not None
    assert (plain.traits, detailed.traits and detailed.traits.labels) == (None, LABELS)
    on_host = reduce_pod(made(hostNetwork=True), traits=SharedTraits())
    assert on_host is not None
    assert on_host.traits is None, "no policy selects it"
    broken = reduce_pod(made(containers=7), traits=SharedTraits())
    assert broken is not None, "whose addresses these are is known all the same"
    assert broken.traits is None


def test_without_labels_the_names_of_ports_are_kept() -> None:
    shared = SharedTraits(labels=False)
    found = shared.of(made(containers=[{"ports": [{"name": "http", "containerPort": 8080}]}]))
    assert found == Traits((), (NamedPort("http", "TCP", 8080),))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("http", "http"),
        ("a" * 15, "a" * 15),
        ("dns-tcp", "dns-tcp"),
        ("8080-x", "8080-x"),
        ("a" * 16, ""),
        ("8080", ""),
        ("a--b", ""),
        ("-a", ""),
        ("a-", ""),
        ("HTTP", ""),
        ("http), by policy x (y", ""),
        ("a\n", ""),
        ("é", ""),
    ],
)
def test_a_port_is_called_by_a_name_that_the_api_server_takes(name: str, shown: str) -> None:
    """Kubernetes' IsValidPortName, which is IANA's service name."""
    ports = [NamedPort(name, "TCP", 80), NamedPort("other", "TCP", 81), NamedPort("udp", "UDP", 80)]
    assert name_of_port(ports, "TCP", 80) == shown
    assert name_of_port(ports, "SCTP", 80) == ""
