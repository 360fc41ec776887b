"""Who is blamed, on the real thing: kernel log, journald, kiptail as a process, and an API server.

Lines are written to the kernel's log as netfilter writes them; the prefix is one of this run alone.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.support.journald import Journald
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail
from tests.support.scrape import free_port, get

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft and journald"),
]

PREFIX = f"kt-owner-{secrets.token_hex(4)}:"
CLIENT, WEB = "10.244.7.9", "10.244.7.3"
#: Longer than the two seconds around a change of hands in which nobody is sure, and the second that pods' times have.
APART = 3.5


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    with network() as net:
        net.add_pod("client", CLIENT)
        net.add_pod("web", WEB)
        net.drop(f"{PREFIX} ", "ct state new")
        yield net


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.pods.put(pod("client", CLIENT))
        yield server


class Node:
    """Everything that kiptail is started with, and what it told."""

    def __init__(self, directory: Path, journald: Journald, server: ApiServer, wires: Network) -> None:
        self._directory, self._journald, self._wires = directory, journald, wires
        self.server = server
        self._kubeconfig = server.kubeconfig(directory / "kubeconfig")

    def kiptail(self, metrics: str = "off") -> Kiptail:
        return Kiptail(
            self._directory,
            "--kubeconfig", self._kubeconfig,
            "--journal-directory", self._journald.directory,
            "--state-directory", self._directory / "state",
            "--prefix", PREFIX,
            "--node-name", "worker-3",
            "--since", "now",
            "--metrics-address", metrics,
            "--repeat-interval", "1s",
        )  # fmt: skip

    def drop(self, port: int) -> None:
        """A packet from the client to the web pod's address is dropped."""
        self._wires.send("client", "tcp", WEB, port)

    def sync(self) -> None:
        time.sleep(0.5)
        self._journald.sync()

    def told(self, port: int) -> dict[str, str]:
        """The texts about this port, by the pod that got them."""
        about = f" on port {port}/TCP"
        return {e["involvedObject"]["name"]: e["message"] for e in self.server.events() if about in e["message"]}

    def tells(self, port: int, *names: str) -> Callable[[], bool]:
        return lambda: set(self.told(port)) == set(names)


@pytest.fixture
def node(tmp_path: Path, server: ApiServer, wires: Network) -> Iterator[Node]:
    with Journald(tmp_path / "journald") as journald:
        yield Node(tmp_path, journald, server, wires)


def now_text() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_a_pod_deleted_while_kiptail_was_down_is_told_and_its_successor_is_not_blamed(node: Node) -> None:
    uid = node.server.pods.put(pod("a", WEB))["metadata"]["uid"]
    with node.kiptail() as kiptail:
        node.drop(7001)
        kiptail.wait_for(node.tells(7001, "a", "client"), "before")
        assert kiptail.stop() == 0
    node.drop(7002)
    time.sleep(APART)
    node.server.pods.delete("a", namespace="team-a")
    node.server.pods.put(pod("b", WEB, start=now_text()))
    time.sleep(APART)
    node.drop(7003)
    node.sync()
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.tells(7002, "a", "client"), "what the first one lost")
        kiptail.wait_for(node.tells(7003, "b", "client"), "what the second one lost")
        node.drop(7004)
        kiptail.wait_for(node.tells(7004, "b", "client"), "what it loses now")
    assert [e["involvedObject"]["uid"] for e in node.server.events() if "receiving" in e["message"]][:2] == [uid, uid]
    assert f"to team-a/a ({WEB})" in node.told(7002)["client"]
    assert f"to team-a/b ({WEB})" in node.told(7003)["client"]


def test_a_pod_deleted_while_kiptail_was_killed_and_that_nobody_succeeded_is_told(node: Node) -> None:
    node.server.pods.put(pod("a", WEB))
    kiptail = node.kiptail()
    kiptail.wait_for(lambda: "READY=1" in kiptail.notes, "READY=1")
    node.drop(7101)
    kiptail.wait_for(node.tells(7101, "a", "client"), "before")
    time.sleep(2.0)  # what is known of pods is stored about once a second
    kiptail.kill()
    node.drop(7102)
    node.server.pods.delete("a", namespace="team-a")
    node.sync()
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.tells(7102, "a", "client"), "after")


def test_a_pod_that_was_gone_before_the_stop_is_told_what_is_read_after_it(node: Node) -> None:
    """Its drop is in the journal, but was not read: that pods' times are those of drops and not of reading."""
    node.server.pods.put(pod("a", WEB))
    with node.kiptail() as kiptail:
        node.drop(7201)
        kiptail.wait_for(node.tells(7201, "a", "client"), "before")
        assert kiptail.stop() == 0
    node.drop(7202)
    time.sleep(APART)
    node.server.pods.delete("a", namespace="team-a")
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.tells(7202, "a", "client"), "the first start after it")
        assert kiptail.stop() == 0
    node.server.pods.put(pod("b", WEB, start=now_text()))
    with node.kiptail() as kiptail:
        time.sleep(APART)
        node.drop(7203)
        kiptail.wait_for(node.tells(7203, "b", "client"), "its successor's own")
    assert set(node.told(7202)) == {"a", "client"}


def test_a_finished_pod_with_the_same_address_is_not_blamed(node: Node) -> None:
    done = pod("done", WEB, phase="Succeeded")
    done["status"]["containerStatuses"] = [
        {"name": "c", "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:05:00Z"}}}
    ]
    node.server.pods.put(done)
    node.server.pods.put(pod("web", WEB, start="2026-01-02T00:00:00Z"))
    with node.kiptail() as kiptail:
        node.drop(7301)
        kiptail.wait_for(node.tells(7301, "web", "client"), "the one that runs")
    assert f"to team-a/web ({WEB})" in node.told(7301)["client"]


def test_a_host_network_pod_is_not_blamed_and_the_text_names_the_node(node: Node) -> None:
    node.server.pods.put(pod("agent", WEB, host_network=True, host=WEB, node="worker-7"))
    with node.kiptail() as kiptail:
        node.drop(7401)
        kiptail.wait_for(node.tells(7401, "client"), "the sender's only")
    assert f"to node/worker-7 ({WEB})" in node.told(7401)["client"]


def test_two_that_claim_an_address_are_both_named_and_neither_is_blamed(node: Node) -> None:
    node.server.pods.put(pod("one", WEB))
    node.server.pods.put(pod("two", WEB))
    with node.kiptail() as kiptail:
        node.drop(7501)
        kiptail.wait_for(node.tells(7501, "client"), "the sender's only")
    assert f"to team-a/one or team-a/two ({WEB})" in node.told(7501)["client"]


def test_a_pod_that_was_blamed_is_not_any_more_when_another_claims_the_address_and_the_metrics_tell(node: Node) -> None:
    node.server.pods.put(ready(pod("one", WEB)))
    port = free_port()
    with node.kiptail(f"127.0.0.1:{port}") as kiptail:
        node.drop(7601)
        kiptail.wait_for(node.tells(7601, "client", "one"), "the only one is told")
        assert disputed(port) == (0, 0)
        node.server.pods.put(ready(pod("two", WEB)))
        both = f"to team-a/one or team-a/two ({WEB})"
        kiptail.wait_for(lambda: both in node.told(7601)["client"], "either may have had it")
        kiptail.wait_for(lambda: disputed(port) == (1, 1), "the metrics")
        node.drop(7601)
        kiptail.wait_for(lambda: disputed(port) == (2, 1), "another drop, and nothing to take back")
        assert kiptail.stop() == 0
    assert set(node.told(7601)) == {"client", "one"}
    counts = {event["involvedObject"]["name"]: event.get("count", 0) for event in node.server.events()}
    assert counts == {"client": 2, "one": 0}


def ready(found: dict[str, Any]) -> dict[str, Any]:
    """The pod, when its object tells since when it has had its address, which is for long."""
    at = found["status"]["startTime"]
    condition = {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": at}
    return {**found, "status": {**found["status"], "conditions": [condition]}}


def disputed(port: int) -> tuple[int, int]:
    """The drops that nobody could be blamed for, and the decisions that were taken back."""
    text = get(port)[1]
    drops, taken_back = (
        re.search(rf"^{name}_total (\d+)", text, re.MULTILINE)
        for name in ("kiptail_drops_ambiguous", "kiptail_flows_reattributed")
    )
    assert drops is not None
    assert taken_back is not None
    return int(drops[1]), int(taken_back[1])
