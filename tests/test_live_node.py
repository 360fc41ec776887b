"""Drops between a pod and its own node, on the real thing: the node is a network namespace, and kiptail runs in it.

Packets, kernel log and journald are real. Where kiptail runs outside, the same lines are some other namespace's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiptail.daemon.machine import ALL_NETNS
from tests.apiserver import ApiServer
from tests.support.netns import within
from tests.support.pods import pod
from tests.support.running import Kiptail, with_file, without_names
from tests.support.scene import NODE_NAME, Scene, scene

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

WEB, NODE, NODES_POD = "10.244.5.3", "10.244.5.1", "10.244.5.2"
#: The port that the readiness probe uses, which it calls by its name, and another one.
PROBED, OTHER = 8080, 8081
PROBES = " (the kubelet's probes use this port)"
#: An Event that waits for nothing is there within this, in seconds; whatever is waited for takes two at least.
AT_ONCE_S = 1.0
#: So many are tried, for a busy machine is late at times.
TRIES = 3


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Both ways between the node and the pod are closed; what goes over the loopback is not meant."""
    with scene(tmp_path_factory.mktemp("node"), {"web": [WEB]}) as node:
        for address in (NODE, NODES_POD):
            node.net.add_node_address(address)
        node.net.drop(f"{node.prefix} ", f"ip daddr {WEB}", hook="output")
        node.net.drop(f"{node.prefix} ", f"ip saddr {WEB}", hook="input")
        yield node


def web() -> dict[str, Any]:
    found = pod("web", WEB)
    found["spec"]["containers"] = [
        {
            "name": "c",
            "image": "x",
            "ports": [{"name": "http", "containerPort": PROBED}, {"name": "admin", "containerPort": OTHER}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }
    ]
    return found


@dataclass
class Run:
    """A kiptail, and its API server."""

    node: Scene
    server: ApiServer
    kiptail: Kiptail

    def texts(self, name: str = "web") -> set[str]:
        """Of the Events of a pod."""
        return {e["message"] for e in self.server.events() if e["involvedObject"]["name"] == name}

    def tells_of(self, port: int) -> bool:
        return any(f"port {port}/" in text for text in self.texts())

    def time_to_tell(self, source: str, target: str, port: int) -> float:
        """Seconds from a packet to its Event. printk may lose a line: then another one is sent."""
        for _ in range(4):
            began = time.monotonic()
            self.node.drop(source, target, port)
            while time.monotonic() < began + 5.0:
                if self.tells_of(port):
                    return time.monotonic() - began
                time.sleep(0.005)
            assert not any(lost.port == port for lost in self.node.lines()), f"logged, not told: {self.kiptail.log}"
        raise AssertionError(f"the kernel logs nothing: {self.kiptail.log}")

    def says(self, *texts: str) -> None:
        self.kiptail.wait_for(lambda: set(texts) <= self.texts(), f"{texts} in {self.texts()}")
        assert self.texts() == set(texts)

    def looked_up(self) -> set[str]:
        """The addresses that it has asked the API server for."""
        asked = {request.query.get("fieldSelector", "") for request in self.server.requests("GET", "/api/v1/pods")}
        return {selector.removeprefix("status.podIP=") for selector in asked if selector.startswith("status.podIP=")}


@pytest.fixture
def server_in_the_node(node: Scene) -> Iterator[ApiServer]:
    """It listens on the loopback of the node's namespace."""
    server = ApiServer()
    within(node.net.node, server.start)
    try:
        yield server
    finally:
        within(node.net.node, server.close)


@pytest.fixture
def in_the_node(node: Scene, server_in_the_node: ApiServer, tmp_path: Path) -> Iterator[Run]:
    """kiptail as it runs on a node: the addresses are the machine's own."""
    into = ("nsenter", f"--net=/run/netns/{node.net.node}")
    yield from _run(node, server_in_the_node, tmp_path, *without_names(tmp_path), *into)


@pytest.fixture
def elsewhere(node: Scene, tmp_path: Path) -> Iterator[Run]:
    """The lines are of a network namespace that is not kiptail's, as net.netfilter.nf_log_all_netns=1 allows."""
    assert ALL_NETNS.read_text().strip() == "1"
    with ApiServer() as server:
        yield from _run(node, server, tmp_path, *without_names(tmp_path))


@pytest.fixture
def by_interface(node: Scene, tmp_path: Path) -> Iterator[Run]:
    """kiptail is told that no other namespace can log. Addresses that it does not know as the machine's are so new."""
    setting = tmp_path / "nf_log_all_netns"
    setting.write_text("0\n")
    with ApiServer() as server:
        yield from _run(node, server, tmp_path, *without_names(tmp_path), *with_file(setting, ALL_NETNS))


def _run(node: Scene, server: ApiServer, directory: Path, *into: str) -> Iterator[Run]:
    server.pods.put(web())
    server.pods.put(pod("on-node", NODES_POD))
    kubeconfig = server.kubeconfig(directory / "kubeconfig")
    with node.kiptail(kubeconfig, "--since", "now", state=directory / "state", within=into) as kiptail:
        # After the list, whatever an Event waits for is not that.
        kiptail.wait_for(lambda: "pods listed" in kiptail.log, "the list of pods")
        yield Run(node, server, kiptail)


def test_what_the_node_sends_to_its_pod_is_told_as_the_nodes_and_as_a_probes_where_it_is_one(in_the_node: Run) -> None:
    for port in (PROBED, OTHER):
        in_the_node.node.net.connect_from_node(NODE, WEB, port)
    begin = f"Packet dropped when receiving traffic from node/{NODE_NAME} ({NODE}) on port"
    in_the_node.says(f"{begin} {PROBED}/TCP (http){PROBES}", f"{begin} {OTHER}/TCP (admin)")
    assert in_the_node.looked_up() == set()


def test_what_a_pod_sends_to_its_node_is_told_as_for_the_node_and_is_no_probe(in_the_node: Run) -> None:
    in_the_node.node.drop(WEB, NODE, PROBED)
    in_the_node.says(f"Packet dropped when sending traffic to node/{NODE_NAME} ({NODE}) on port {PROBED}/UDP")
    assert in_the_node.looked_up() == set()


def test_an_event_about_the_own_node_waits_for_nothing(in_the_node: Run) -> None:
    taken = [in_the_node.time_to_tell(WEB, NODE, port) for port in range(9001, 9001 + TRIES)]
    assert min(taken) < AT_ONCE_S, taken


def test_a_pod_that_is_known_to_have_an_address_of_the_node_is_named_and_told(in_the_node: Run) -> None:
    in_the_node.node.net.connect_from_node(NODES_POD, WEB, PROBED)
    in_the_node.says(
        f"Packet dropped when receiving traffic from team-a/on-node ({NODES_POD}) on port {PROBED}/TCP (http)"
    )
    sent = f"Packet dropped when sending traffic to team-a/web ({WEB}) on port {PROBED}/TCP (http)"
    in_the_node.kiptail.wait_for(lambda: in_the_node.texts("on-node") == {sent}, sent)


def test_lines_of_another_namespace_are_not_taken_for_the_nodes_where_such_can_log(elsewhere: Run) -> None:
    elsewhere.node.net.connect_from_node(NODE, WEB, PROBED)
    elsewhere.node.drop(WEB, NODE, OTHER)
    elsewhere.says(
        f"Packet dropped when receiving traffic from {NODE} on port {PROBED}/TCP (http)",
        f"Packet dropped when sending traffic to {NODE} on port {OTHER}/UDP",
    )
    # It could be a pod's.
    assert elsewhere.looked_up() == {NODE}


def test_where_no_other_namespace_can_log_the_lines_interfaces_tell_that_it_is_the_node(by_interface: Run) -> None:
    by_interface.node.net.connect_from_node(NODE, WEB, PROBED)
    by_interface.node.net.connect_from_node(NODES_POD, WEB, PROBED)
    by_interface.node.drop(WEB, NODE, OTHER)
    begin = "Packet dropped when receiving traffic from"
    by_interface.says(
        f"{begin} node/{NODE_NAME} ({NODE}) on port {PROBED}/TCP (http){PROBES}",
        f"{begin} team-a/on-node ({NODES_POD}) on port {PROBED}/TCP (http)",
        f"Packet dropped when sending traffic to node/{NODE_NAME} ({NODE}) on port {OTHER}/UDP",
    )
    assert by_interface.looked_up() == set()
