"""Ports of nodes that are pods'."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.pods.host_ports import HostPorts, host_ports
from kiptail.pods.pod import HostPort, Pod, PodRef
from kiptail.pods.pod_object import reduce_pod
from tests.support.pods import pod

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
NODE_IP = "192.0.2.3"


def spec(*ports: Any) -> dict[str, Any]:
    return {"containers": [{"ports": list(ports)}]}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param({"hostPort": 80, "containerPort": 8080}, HostPort("TCP", 80), id="TCP where nothing is said"),
        pytest.param({"hostPort": 53, "protocol": "UDP"}, HostPort("UDP", 53), id="UDP"),
        pytest.param({"hostPort": 80, "hostIP": NODE_IP}, HostPort("TCP", 80, NODE_IP), id="at one address"),
        pytest.param({"hostPort": 80, "hostIP": "2001:DB8:0::3"}, HostPort("TCP", 80, "2001:db8::3"), id="IPv6"),
        pytest.param({"hostPort": 80, "hostIP": "0.0.0.0"}, HostPort("TCP", 80), id="at all addresses"),  # noqa: S104
        pytest.param({"hostPort": 80, "hostIP": "::"}, HostPort("TCP", 80), id="at all of IPv6"),
        pytest.param({"containerPort": 80}, None, id="no host port"),
        pytest.param({"hostPort": 0}, None, id="0"),
        pytest.param({"hostPort": 65_536}, None, id="too large"),
        pytest.param({"hostPort": "80"}, None, id="a text"),
        pytest.param({"hostPort": True}, None, id="a truth value"),
        pytest.param({"hostPort": 80, "protocol": "ICMP"}, None, id="no such protocol"),
        pytest.param({"hostPort": 80, "hostIP": "node"}, None, id="no address"),
        pytest.param({"hostPort": 80, "hostIP": 7}, None, id="no text"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_a_host_port(given: Any, found: HostPort | None) -> None:
    assert host_ports(spec(given)) == (() if found is None else (found,))


def test_they_are_bounded() -> None:
    assert len(host_ports(spec(*({"hostPort": n} for n in range(1, 500))))) == 64
    assert host_ports(spec(*[None] * 1_000, {"hostPort": 80})) == ()


JUNK = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["containers", "ports", "hostPort", "hostIP", "protocol"]), inner), max_leaves=8)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["containers", "x"]), JUNK))
def test_whatever_a_spec_holds_only_ports_come_of_it(junk: dict[str, Any]) -> None:
    assert all(0 < port.number < 65_536 for port in host_ports(junk))


def made(name: str = "web", *ports: HostPort, **more: Any) -> Pod:
    ref = PodRef("team-b", name, name)
    pod = Pod(name, ref, ("10.0.0.1",), T0, T0, None, False, "worker-3", (NODE_IP,), host_ports=ports)
    return pod._replace(**more)


WEB = made("web", HostPort("TCP", 80), HostPort("UDP", 53, NODE_IP))


def users(known: HostPorts, protocol: str = "TCP", number: int = 80, *, node: str = "worker-3", at_us: int = T0,
          address: str = NODE_IP) -> list[str]:  # fmt: skip
    return [ref.name for ref in known.users(node, address, protocol, number, at_us)]


def test_a_port_is_its_pods_on_that_node_at_that_address() -> None:
    known = HostPorts()
    known.replace([WEB, made("other")])
    assert users(known) == ["web"]
    assert users(known, "UDP", 53) == ["web"]
    assert users(known, "UDP", 53, address="192.0.2.4") == [], "it is at another address of the node"
    assert users(known, "UDP") == []
    assert users(known, number=81) == []
    assert users(known, node="worker-4") == []


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(WEB._replace(start_us=T0 + 1), id="it came later"),
        pytest.param(WEB._replace(start_us=None), id="it has not begun"),
        pytest.param(WEB._replace(until_us=T0 + 5), id="it has finished"),
        pytest.param(WEB._replace(leaving=True), id="it is leaving"),
        pytest.param(WEB._replace(node=""), id="it has no node"),
    ],
)
def test_a_port_is_nobodys_where_that_is_not_certain(pod: Pod) -> None:
    known = HostPorts()
    known.put(pod)
    assert users(known) == []
    known.put(WEB)
    known.put(pod._replace(node="worker-3"))
    assert users(known) == [] or not pod.node


def test_it_is_not_a_pods_any_more_that_is_gone() -> None:
    known = HostPorts()
    known.put(WEB)
    known.put(made("two", HostPort("TCP", 80, "192.0.2.4")))
    known.remove("nobody")
    known.remove("web")
    assert users(known) == []
    assert users(known, address="192.0.2.4") == ["two"]
    known.replace([])
    assert users(known, address="192.0.2.4") == []


def test_pods_may_end_and_go_in_any_order() -> None:
    known = HostPorts()
    for each in (WEB, made("two", HostPort("TCP", 80, "192.0.2.4"))):
        known.put(each)
    known.put(WEB._replace(leaving=True))
    known.remove("two")
    known.put(WEB._replace(until_us=T0))
    known.remove("web")
    assert users(known) == []
    known.put(WEB)
    assert users(known) == ["web"]


def test_a_pods_object_tells_of_them_also_on_the_nodes_network() -> None:
    """There the API server sets each ``hostPort`` to the container's port."""
    for host_network in (False, True):
        obj = pod("web", "10.0.0.1", uid="u", host_network=host_network)
        obj["spec"]["containers"][0]["ports"] = [{"containerPort": 9100, "hostPort": 9100}]
        reduced = reduce_pod(obj)
        assert reduced is not None
        assert reduced.host_ports == (HostPort("TCP", 9100),)
