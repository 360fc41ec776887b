"""The pods of a node and look-ups of others, against the test API server, whose log of requests tells the cost."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.config.values import network
from kiptail.kube.api import KubeApi
from kiptail.names import cluster
from kiptail.names.cluster import ClusterNames
from kiptail.pods import dual_stack, dual_stack_plan, found, lookup_queue, reflector
from kiptail.pods.live import LiveIndex, NodeMode
from kiptail.pods.ownership import Hands, Owned
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks
from tests.apiserver import ApiServer, Request
from tests.support.pods import pod

NODE = "worker-3"


def now_us() -> int:
    return time.time_ns() // 1000


def text(at_us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_us / 1e6))


def _nothing() -> None:
    pass


class Node:
    """A node's index with everything around it."""

    def __init__(self, server: ApiServer, directory: Path, user: str = "", cidrs: tuple[str, ...] = ()) -> None:
        self.server = server
        token = server.add_user(user) if user else None
        self.api = KubeApi.from_kubeconfig(
            server.kubeconfig(directory / "kubeconfig", token=token), request_timeout_s=3.0
        )
        #: Addresses of which something else was known, time after time.
        self.changes: list[str] = []
        self.found: list[str] = []
        ranges = PodRanges([network(cidr) for cidr in cidrs])
        self.names = ClusterNames(self.api, ranges=ranges, nodes=True)
        self.index = LiveIndex(
            self.api,
            node=NODE,
            label=None,
            ranges=ranges,
            names=self.names,
            hooks=Hooks(self.changes.extend, on_ready=_nothing, on_nodes=_nothing, observe=lambda reason: None),
            clock=OwnClock(),
            node_mode=NodeMode(on_found=self._note_found, how_to_grant=lambda: "ask an administrator"),
        )

    def _note_found(self, addresses: Iterable[str]) -> None:
        self.found += addresses

    def start(self) -> None:
        self.names.start()
        self.index.start()
        self.server.wait_for(lambda: self.index.ready() and self.names.settled())

    def stop(self) -> None:
        self.index.stop()
        self.names.stop()
        self.api.close()

    def owner(self, address: str, at_us: int = 0) -> list[str]:
        return sorted(ref.name for ref in self.index.owners.owned(address, at_us or now_us()).pods)

    def asked(self, address: str, at_us: int = 0) -> list[str]:
        """Ask for the owner as a flow does, until there is nothing to wait for but news."""
        at_us = at_us or now_us() - 10_000_000
        self.server.wait_for(lambda: self.owner(address, at_us) or not self.index.owners.awaits(address, at_us))
        return self.owner(address, at_us)

    def lookups(self) -> list[Request]:
        return [r for r in self.server.requests() if r.query.get("fieldSelector", "").startswith("status.podIP=")]

    def dual_stack_lists(self) -> list[Request]:
        return [r for r in self.server.requests("GET", "/api/v1/pods", verb="list") if "fieldSelector" not in r.query]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def make(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 0.05)
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 0.0)
    made: list[Node] = []

    def start(*arguments: Any, **options: Any) -> Node:
        made.append(Node(server, tmp_path, *arguments, **options))
        made[-1].start()
        return made[-1]

    yield start
    for node in made:
        node.stop()


@pytest.fixture
def node(server: ApiServer, make: Callable[..., Node]) -> Node:
    server.pods.put(pod("local", "10.244.1.1"))
    return make()


def remote(name: str, *addresses: str, **options: Any) -> dict[str, Any]:
    return pod(name, *addresses, node="worker-9", host="198.51.100.9", **options)


def test_only_the_nodes_own_pods_are_followed(server: ApiServer, node: Node) -> None:
    server.pods.put(remote("far", "10.244.9.1"))
    server.pods.put(pod("near", "10.244.1.2"))
    server.wait_for(lambda: node.owner("10.244.1.2") == ["near"])
    assert node.owner("10.244.1.1") == ["local"]
    assert len(node.index.local) == 2
    assert node.index.has_node(NODE)
    assert {r.query["fieldSelector"] for r in server.requests("GET", "/api/v1/pods")} == {"spec.nodeName=worker-3"}


def test_a_pod_of_another_node_is_looked_up_once(server: ApiServer, node: Node) -> None:
    server.pods.put(remote("far", "10.244.9.1"))
    assert node.index.owners.awaits("10.244.9.1", now_us())
    assert node.asked("10.244.9.1") == ["far"]
    assert node.asked("10.244.9.1") == ["far"]
    (request,) = node.lookups()
    assert request.query == {"fieldSelector": "status.podIP=10.244.9.1", "resourceVersion": "0", "limit": "10"}
    assert node.found == ["10.244.9.1"]
    assert node.changes.count("10.244.9.1") == 1
    assert node.index.stats().lookups == {"hit": 1}


def test_a_miss_answers_for_drops_from_before_it_only(
    server: ApiServer, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "MISS_PAUSE", 0.3)
    assert node.asked("10.244.9.1") == []
    assert node.asked("10.244.9.1") == []
    assert len(node.lookups()) == 1
    server.pods.put(remote("far", "10.244.9.1"))
    assert node.asked("10.244.9.1", now_us()) == ["far"]
    assert len(node.lookups()) == 2
    assert node.index.stats().lookups == {"miss": 1, "hit": 1}


def test_an_address_that_misses_time_and_again_is_asked_for_ever_more_rarely(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "MISS_PAUSE", 0.1)
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        node.index.owners.awaits("10.244.9.1", now_us())
        time.sleep(0.01)
    assert 3 <= len(node.lookups()) <= 6, "after 0.1, 0.3, 0.7, 1.5 seconds"


def test_a_successor_is_not_blamed_and_the_predecessor_no_longer(
    server: ApiServer, make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "HIT_TTL", 0.2)
    node = make()
    server.pods.put(remote("old", "10.244.9.1"))
    first_us = now_us() - 60_000_000
    assert node.asked("10.244.9.1", first_us) == ["old"]
    server.pods.delete("old", namespace="team-a")
    server.pods.put(remote("new", "10.244.9.1", start=text(now_us())))
    time.sleep(0.3)
    assert node.asked("10.244.9.1", now_us() + 10_000_000) == ["new"]
    assert node.owner("10.244.9.1", first_us) == ["old"]


def test_a_thousand_drops_to_two_hundred_addresses_are_two_hundred_lookups(
    server: ApiServer, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.index._others._lookups._queue, "_bucket", lookup_queue.TokenBucket(500.0, 100))
    addresses = [f"10.244.{9 + n // 100}.{n % 100 + 1}" for n in range(200)]
    for n, address in enumerate(addresses[:100]):
        server.pods.put(remote(f"far-{n}", address))
    at_us = now_us()
    strangers = ["8.8.8.8", "127.0.0.1", "169.254.1.1", "224.0.0.1", "2001:db8::1", "fe80::1", "198.51.100.3"]

    def drops() -> None:
        for _ in range(5):
            for address in (*addresses, *strangers):
                if not node.index.owners.owned(address, at_us).pods and not node.index.owners.name(address):
                    node.index.owners.awaits(address, at_us)

    threads = [threading.Thread(target=drops) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.wait_for(lambda: node.index.stats().pending == 0)
    drops()
    assert len(node.lookups()) == 200
    assert {r.query["fieldSelector"].partition("=")[2] for r in node.lookups()} == set(addresses)
    assert [node.owner(address, at_us) for address in addresses[:100]] == [[f"far-{n}"] for n in range(100)]


def test_lookups_are_paced(server: ApiServer, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.index._others._lookups._queue, "_bucket", lookup_queue.TokenBucket(5.0, 3))
    for n in range(30):
        node.index.owners.awaits(f"10.244.9.{n + 1}", now_us())
    time.sleep(1.0)
    assert 3 <= len(node.lookups()) <= 9
    assert node.index.stats().pending >= 21


def test_pod_cidr_says_what_is_looked_up(make: Callable[..., Node]) -> None:
    node = make(cidrs=("203.0.113.0/24",))
    past_us = now_us() - 10_000_000
    assert not node.index.owners.awaits("10.244.9.1", past_us)
    assert node.index.owners.awaits("203.0.113.5", past_us)


def test_host_network_pods_name_their_node_and_finished_pods_own_nothing_any_more(
    server: ApiServer, node: Node
) -> None:
    server.pods.put(remote("agent", "10.9.9.9", host_network=True) | {})
    server.pods.put(remote("done", "10.244.9.1", phase="Succeeded"))
    agent = server.pods.get("agent", namespace="team-a")
    assert agent is not None
    agent["status"] |= {"hostIP": "10.9.9.9", "hostIPs": [{"ip": "10.9.9.9"}]}
    server.pods.put(agent)
    assert node.asked("10.9.9.9") == []
    assert node.index.owners.name("10.9.9.9") == "node/worker-9"
    assert node.asked("10.244.9.1") == []


def test_a_kubelets_credential_follows_its_node_and_is_told_once_what_is_missing(
    server: ApiServer, make: Callable[..., Node], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_queue, "FORBIDDEN_RETRY", 0.5)
    caplog.set_level(logging.INFO)
    server.pods.put(pod("local", "10.244.1.1"))
    server.pods.put(remote("far", "10.244.9.1"))
    node = make(user="system:node:worker-3")
    assert node.owner("10.244.1.1") == ["local"]
    for _ in range(2):
        assert node.asked("10.244.9.1") == []
        assert not node.index.owners.awaits("10.244.9.2", now_us() - 10_000_000), "nobody waits for what is forbidden"
        time.sleep(0.6)
    complaints = [record.getMessage() for record in caplog.records if "looked up" in record.getMessage()]
    assert len(complaints) == 1
    assert complaints[0].endswith("; ask an administrator")
    assert "\n" not in complaints[0]
    assert 1 <= len(node.lookups()) <= 3
    server.grant("system:nodes", "list", "pods")
    assert node.asked("10.244.9.1") == ["far"]
    assert "can be looked up now" in caplog.text


@pytest.mark.parametrize(("status", "retry_after"), [(429, 1), (503, None), (500, None)])
def test_a_server_in_trouble_is_asked_again_later(
    server: ApiServer, node: Node, status: int, retry_after: int | None
) -> None:
    server.pods.put(remote("far", "10.244.9.1"))
    server.faults.status(
        status, retry_after=retry_after, match=lambda r: "podIP" in r.query.get("fieldSelector", ""), count=2
    )
    assert node.asked("10.244.9.1") == ["far"]
    assert len(node.lookups()) == 3
    assert node.index.stats().lookups == {"failed": 2, "hit": 1}


def test_a_second_address_is_found_by_one_dual_stack_list_and_then_looked_up_by_the_first(
    server: ApiServer, make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_stack, "PAGE_LIMIT", 10)
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 1.0)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    server.pods.put(pod("local", "10.244.1.1", "fd00::1:1"))
    for n in range(30):
        server.pods.put(remote(f"far-{n}", f"10.244.9.{n + 1}", f"fd00::9:{n + 1:x}"))
    node = make()
    at_us = now_us()
    for n in range(10):
        node.index.owners.awaits(f"fd00::9:{n + 1:x}", at_us)
    assert node.asked("fd00::9:1", at_us) == ["far-0"]
    assert [node.asked(f"fd00::9:{n + 1:x}", at_us) for n in range(10)] == [[f"far-{n}"] for n in range(10)]
    assert len(node.dual_stack_lists()) == 4, "one, in pages"
    assert node.lookups() == []
    stats = node.index.stats()
    assert (stats.dual_stack_lists, stats.dual_stack_pods) == (1, 31)
    assert stats.dual_stack_s > 0
    assert node.asked("fd00::9:1e", now_us()) == ["far-29"]
    assert [r.query["fieldSelector"] for r in node.lookups()] == ["status.podIP=10.244.9.30"]
    assert len(node.dual_stack_lists()) == 4


def test_an_address_that_comes_during_a_dual_stack_list_need_not_wait_for_the_next(
    server: ApiServer, make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pods.put(pod("local", "10.244.1.1", "fd00::1:1"))
    for n in range(2):
        server.pods.put(remote(f"far-{n}", f"10.244.9.{n + 1}", f"fd00::9:{n + 1:x}"))
    node = make()
    with server.faults.hang(match=lambda r: r.path == "/api/v1/pods" and "fieldSelector" not in r.query):
        node.index.owners.awaits("fd00::9:1", now_us())
        server.wait_for(node.dual_stack_lists)
        at_us = now_us()
        assert node.index.owners.awaits("fd00::9:2", at_us)
    assert node.asked("fd00::9:2", at_us) == ["far-1"]
    assert node.asked("fd00::9:1", at_us - 10_000_000) == ["far-0"]
    assert len(node.dual_stack_lists()) == 1
    assert "fd00::9:2" in node.found


def test_no_dual_stack_list_in_a_large_cluster(
    server: ApiServer, make: Callable[..., Node], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_stack, "PAGE_LIMIT", 10)
    monkeypatch.setattr(dual_stack, "MAX_PODS", 20)
    server.pods.put(pod("local", "10.244.1.1", "fd00::1:1"))
    for n in range(30):
        server.pods.put(remote(f"far-{n}", f"10.244.9.{n + 1}", f"fd00::9:{n + 1:x}"))
    node = make()
    assert node.asked("fd00::9:1") == []
    assert node.asked("fd00::9:2") == []
    assert len(node.dual_stack_lists()) == 1, "the first page tells how many there are"
    assert caplog.text.count("--pod-index cluster") == 1


def test_pods_in_the_nodes_network_have_no_nodes_listed_for_them(
    server: ApiServer, make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clouds give pods addresses of the nodes' own subnet, and each new one is asked for as a node's first."""
    monkeypatch.setattr(cluster, "EARLY_AFTER", (1.0, 1.0))
    server.nodes.put(
        {"metadata": {"name": "w7"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.7"}]}}
    )
    server.pods.put(pod("local", "10.9.0.10"))
    server.pods.put(remote("far", "10.9.0.20"))
    node = make()
    node.index.owners.name("10.9.0.20")
    assert node.asked("10.9.0.20") == ["far"]
    node.index.owners.name("10.9.0.11")
    server.pods.put(pod("younger", "10.9.0.11"))
    server.wait_for(lambda: node.owner("10.9.0.11", now_us() + 10_000_000))
    with pytest.raises(AssertionError):
        server.wait_for(lambda: len(server.requests("GET", "/api/v1/nodes")) > 1, timeout=1.3)
    assert node.index.owners.name("10.9.0.8") == ""
    server.nodes.put(
        {"metadata": {"name": "w8"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.8"}]}}
    )
    server.wait_for(lambda: node.index.owners.name("10.9.0.8") == "node/w8", timeout=15.0)


def test_nodes_and_services_are_named_and_not_looked_up(server: ApiServer, make: Callable[..., Node]) -> None:
    server.nodes.put(
        {
            "metadata": {"name": "worker-7"},
            "spec": {"podCIDRs": ["203.0.113.0/24"]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.9.0.7"}, {"type": "Hostname", "address": "w"}]
            },
        }
    )
    for name, address in (("db", "10.96.0.5"), ("dns", "10.96.200.10")):
        server.services.put(
            {"metadata": {"name": name, "namespace": "team-a"}, "spec": {"clusterIP": address, "clusterIPs": [address]}}
        )
    server.services.put({"metadata": {"name": "headless", "namespace": "team-a"}, "spec": {"clusterIP": "None"}})
    node = make()
    assert node.index.owners.name("10.9.0.7") == "node/worker-7"
    assert node.index.owners.name("10.96.0.5") == "service team-a/db"
    assert not node.index.owners.awaits("10.96.77.77", now_us()), "in the Services' range"
    assert node.index.owners.awaits("203.0.113.5", now_us()), "in a node's range"
    assert len(server.requests(verb="list")) == 2


def test_names_that_may_not_be_listed_are_no_error(
    server: ApiServer, make: Callable[..., Node], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.grant("kiptail", "list watch", "pods")
    node = make(user="kiptail")
    assert node.index.owners.name("10.96.0.5") == ""
    told = [record for record in caplog.records if "not named" in record.getMessage()]
    assert [record.levelname for record in told] == ["INFO", "INFO"]


def test_an_address_that_a_local_pod_takes_over_is_no_longer_the_other_pods(server: ApiServer, node: Node) -> None:
    server.pods.put(remote("far", "10.244.9.1"))
    assert node.asked("10.244.9.1") == ["far"]
    server.pods.delete("far", namespace="team-a")
    server.pods.put(pod("heir", "10.244.9.1", start=text(now_us())))
    later_us = now_us() + 10_000_000
    server.wait_for(lambda: node.owner("10.244.9.1", later_us) == ["heir"])


def test_what_was_found_long_ago_is_not_taken_for_granted_but_still_known(
    server: ApiServer, make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "HIT_TTL", 0.2)
    node = make()
    server.pods.put(remote("far", "10.244.9.1", uid="uid-far"))
    at_us = now_us() - 10_000_000
    assert node.asked("10.244.9.1", at_us) == ["far"]
    server.wait_for(lambda: node.owner("10.244.9.1", at_us) == [])
    assert [ref.name for ref in node.index.owners.recorded("10.244.9.1", at_us).pods] == ["far"]
    assert node.index.owners.dates("10.244.9.1", "uid-far")
    assert not node.index.owners.dates("10.244.9.1", "uid-other")
    assert not node.index.owners.dates("10.244.9.2", "uid-far")


def test_an_address_changes_hands_between_nodes(server: ApiServer, node: Node) -> None:
    """What the watch knows and what look-ups found is judged together."""
    assert node.index.owners.hands("10.244.9.1") == Hands()
    server.pods.put(remote("far", "10.244.9.1", start=text(now_us() - 3600_000_000)))
    assert node.asked("10.244.9.1") == ["far"]
    assert len(node.index.owners.hands("10.244.9.1").changes) == 1
    heir = pod("heir", "10.244.9.1", start=text(now_us()))
    ready_us = now_us() // 1_000_000 * 1_000_000 - 5_000_000
    heir["status"]["conditions"] = [
        {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": text(ready_us)}
    ]
    server.pods.put(heir)
    server.wait_for(lambda: "heir" in node.owner("10.244.9.1"))
    assert ready_us in node.index.owners.hands("10.244.9.1").changes
    assert set(node.index.owners.hands("10.244.9.1").boundaries) >= {ready_us}
    found = node.index.owners.recorded("10.244.9.1", ready_us + 120_000_000)
    assert found == Owned(found.pods, sure=True)
    assert [ref.name for ref in found.pods] == ["heir"]
    assert [ref.name for ref in node.index.owners.recorded("10.244.9.1", ready_us - 1).pods] == ["far"]


def test_a_stop_ends_all_threads_while_the_server_hangs(server: ApiServer, node: Node) -> None:
    with server.faults.hang(path="/api/v1/pods"):
        node.index.owners.awaits("10.244.9.1", now_us())
        server.wait_for(node.lookups)
        begin = time.monotonic()
        node.index.stop(timeout=0.2)
        node.api.close()
        assert time.monotonic() - begin < 1.5


def test_further_addresses_of_this_nodes_pods_are_found_once_nobody_else_has_them(
    server: ApiServer, make: Callable[..., Node]
) -> None:
    """The pod of another node that has one of them by its status is looked up first, and an annotation is edited."""

    def claiming(*claims: str) -> dict[str, Any]:
        status = json.dumps([{"name": "net1", "ips": claims}])
        return pod("near", "10.0.0.1", uid="near", annotations={"k8s.v1.cni.cncf.io/network-status": status})

    server.pods.put(claiming("192.168.7.1", "10.0.9.9"))
    server.pods.put(pod("far", "10.0.9.9", node="worker-4", uid="far"))
    node = make()
    owners = node.index.owners
    assert not owners.claimable("192.168.7.1", now_us() - 10_000_000), "nobody was asked yet"
    assert node.asked("192.168.7.1") == []
    at_us = now_us() - 10_000_000
    assert owners.claimable("192.168.7.1", at_us)
    assert [ref.name for ref in owners.claimed("192.168.7.1", at_us).pods] == ["near"]
    assert node.asked("10.0.9.9") == ["far"]
    assert not owners.claimable("10.0.9.9", at_us)
    lookups = len(node.lookups())
    node.changes.clear()
    server.pods.put(claiming("192.168.7.2", "10.0.9.9"))
    server.wait_for(lambda: {"192.168.7.1", "192.168.7.2"} <= set(node.changes))
    assert "10.0.9.9" not in node.changes, "it is claimed as before"
    assert owners.claimable("192.168.7.1", at_us), "what was found out by look-ups holds"
    assert len(node.lookups()) == lookups
    assert owners.claimed("192.168.7.2", at_us).pods == (), "from now on"
    server.pods.put(pod("near", "10.0.0.1", uid="near", annotations={"k8s.v1.cni.cncf.io/network-status": "{"}))
    server.wait_for(lambda: node.index.stats().malformed == 1)
