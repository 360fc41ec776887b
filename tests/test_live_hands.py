"""An address goes from one pod to the next while its packets are dropped: each counts for whoever had it then.

The packets, the kernel's log and journald are real; the kubelet is tests.support.kubelet. All stories are played at the
same time, to two kiptails, one for each ``--pod-index``. The truth about a packet is in its source port: who had the
address when it was sent.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.support.kubelet import GRACE_S, Kubelet
from tests.support.pods import pod
from tests.support.running import Kiptail, without_names
from tests.support.scene import Scene, scene
from tests.support.tally import Packet, packets

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, VISITOR = "10.244.7.9", "10.244.7.10"
#: Source ports: packets to the first pod, to nobody, and to the second pod with the address.
FIRST, NOBODY, SECOND = 40001, 40002, 40003
#: Between two packets of a story, in seconds.
PERIOD_S = 0.2
#: How long each pod is sent to, in seconds.
SENT_TO_S = 3.0
PORT = 9000
#: After a pod that was deleted by force its packets may go on for its grace period, for the time that its kubelet takes
#: to kill it, and for the seconds that are cut off.
KILLED_S = 4.0

#: More targets than the 20 flows that an address has for itself.
TARGETS = [f"10.250.0.{number}" for number in range(1, 31)]
#: The last one to which the first pod's packets are folded, and one that it never sends to.
FOLDED_TARGET, NEW_TARGET = TARGETS[-1], "10.250.0.99"
#: News of pods comes so late in some stories, in seconds: later than a flow's ends are waited for.
LATE_S = 3.0

NEW_SERVICE, NEW_NODE = "10.96.0.77", "172.30.0.12"
#: Within this, in seconds, a new Service or node has its name in the Events: two lists are 10 s apart, a fifth more by
#: chance, and the list and the update take their time.
RENAMED_S = 15.0


@dataclass(frozen=True)
class Story:
    """A pod NAME-a is deleted while a client goes on sending to its address; NAME-b gets the address."""

    name: str
    address: str
    #: Seconds in which nobody has the address.
    gap_s: float
    grace_s: int = GRACE_S
    forced: bool = False


GRACEFUL = Story("graceful", "10.244.7.21", gap_s=30.0)
GRACEFUL_SOON = Story("graceful-soon", "10.244.7.22", gap_s=1.0)
FORCED = Story("forced", "10.244.7.23", gap_s=30.0, grace_s=5, forced=True)
FORCED_SOON = Story("forced-soon", "10.244.7.24", gap_s=3.0, forced=True)
STORIES = (GRACEFUL, GRACEFUL_SOON, FORCED, FORCED_SOON)


@dataclass(frozen=True)
class Crowd:
    """A pod NAME-a sends to more targets than it has flows for and ends; NAME-b gets its address and sends once."""

    name: str
    address: str
    target: str
    #: News of the second pod, and of the first one's end, comes so late, in seconds.
    begin_late_s: float = 0.0
    end_late_s: float = 0.0


CROWDS = (
    Crowd("crowd", "10.244.8.1", FOLDED_TARGET),
    Crowd("crowd-elsewhere", "10.244.8.2", NEW_TARGET),
    Crowd("crowd-late", "10.244.8.3", FOLDED_TARGET, begin_late_s=LATE_S),
    Crowd("crowd-both-late", "10.244.8.4", NEW_TARGET, begin_late_s=LATE_S, end_late_s=LATE_S),
)


#: ``--pod-index``.
INDEXES = ("node", "cluster")


@dataclass
class Played:
    """What came of it all at one API server; what was sent, and when, is the same for all."""

    events: list[dict[str, Any]]
    sent: list[Packet]
    #: When pods were deleted by force, seconds since the epoch, by the story.
    deleted: dict[Story, float]
    #: By address: the Event that told of it without a name, and how many seconds later one had it.
    renamed: dict[str, tuple[dict[str, Any], float]]

    def count(self, pod: str, about: str = "") -> int:
        """How many packets this pod's Events tell of, in those texts that hold ``about``."""
        return sum(
            e.get("count", 0) for e in self.events if e["involvedObject"]["name"] == pod and about in e["message"]
        )

    def packets(self, address: str) -> Counter[int]:
        """How many packets were sent to an address, by their source ports."""
        return Counter(packet.source_port for packet in self.sent if packet.lost.dst == address)


class Stage:
    """Where the stories are played."""

    def __init__(self, node: Scene, servers: Mapping[str, ApiServer]) -> None:
        self.node, self.servers = node, servers
        self.kubelet = Kubelet(*servers.values())
        self.deleted: dict[Story, float] = {}
        self.renamed: dict[str, dict[str, tuple[dict[str, Any], float]]] = {index: {} for index in servers}

    def hand_over(self, story: Story) -> None:
        """Play one; its first pod has been running for long."""
        kubelet, first, second = self.kubelet, f"{story.name}-a", f"{story.name}-b"
        self._send(story.address, FIRST, SENT_TO_S)
        if story.forced:
            self.deleted[story] = time.time()
            kubelet.delete_by_force(first)
        else:
            kubelet.ask_to_end(first)
            self._send(story.address, FIRST, 1.0)
            kubelet.finish(first)
            kubelet.delete(first)
        # Kubernetes' times are whole seconds: whose the packets in the rest of this one are, nobody could tell.
        next_second()
        self._send(story.address, NOBODY, story.gap_s)
        kubelet.accept(second)
        next_second()
        kubelet.make_sandbox(second)
        self._send(story.address, SECOND, 2 * PERIOD_S)
        kubelet.show(second, story.address)
        self._send(story.address, SECOND, SENT_TO_S)

    def crowd(self, crowd: Crowd) -> None:
        """Play one; its first pod has been running for long."""
        kubelet, first, second = self.kubelet, f"{crowd.name}-a", f"{crowd.name}-b"
        for target in TARGETS:
            self.node.drop(crowd.address, target, PORT)
        kubelet.ask_to_end(first)
        next_second()
        ended = time.time()
        next_second()
        began = time.time()
        with ThreadPoolExecutor(1) as late:
            late.submit(self._end_late, crowd, ended)
            self.node.drop(crowd.address, crowd.target, PORT)
            time.sleep(crowd.begin_late_s)
            kubelet.run(second, crowd.address, at=began)

    def rename(self, index: str, address: str, create: Callable[[ApiServer], object]) -> None:
        """Nobody has the address in the last list; an Event tells of it; then ``create`` gives it to somebody."""
        server = self.servers[index]

        def about() -> dict[str, Any]:
            return next((e for e in server.events() if address in e["message"]), {})

        self.node.drop(VISITOR, address, PORT)
        nameless = server.wait_for(about, message=f"an Event about {address}")
        began = time.monotonic()
        create(server)
        # What came of it is judged later: the other stories are to be played to their end.
        while f"({address})" not in about()["message"] and time.monotonic() < began + 2 * RENAMED_S:
            self.node.drop(VISITOR, address, PORT)
            time.sleep(PERIOD_S)
        self.renamed[index][address] = nameless, time.monotonic() - began
        self.node.drop(VISITOR, address, PORT)

    def _end_late(self, crowd: Crowd, ended: float) -> None:
        time.sleep(crowd.end_late_s)
        self.kubelet.finish(f"{crowd.name}-a", at=ended)
        self.kubelet.delete(f"{crowd.name}-a")

    def _send(self, address: str, source_port: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.node.drop(CLIENT, address, PORT, source_port=source_port)
            time.sleep(PERIOD_S)


def next_second() -> None:
    """Return when another second has begun."""
    time.sleep(math.ceil(time.time()) - time.time() + 0.01)


@pytest.fixture(scope="module")
def played_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    directory = tmp_path_factory.mktemp("hands")
    places = {
        "client": [CLIENT],
        "visitor": [VISITOR],
        "web": [story.address for story in STORIES],
        "crowds": [crowd.address for crowd in CROWDS],
        "targets": [*TARGETS, NEW_TARGET, NEW_SERVICE, NEW_NODE],
    }
    with ExitStack() as stack:
        node = stack.enter_context(scene(directory, places))
        servers = {index: stack.enter_context(ApiServer()) for index in INDEXES}
        stage = Stage(node, servers)
        for name, address in (("client", CLIENT), ("visitor", VISITOR)):
            stage.kubelet.run(name, address)
        for story in STORIES:
            stage.kubelet.run(f"{story.name}-a", story.address, grace_s=story.grace_s)
        for crowd in CROWDS:
            stage.kubelet.run(f"{crowd.name}-a", crowd.address)
        kiptails = [stack.enter_context(follow(node, index, servers[index])) for index in INDEXES]
        play(stage)
        sent = packets(node.journald, node.prefix)
        for kiptail in kiptails:
            # Ends are decided after two seconds, and counts are written every second.
            kiptail.watch(3.0)
        for kiptail in kiptails:
            assert kiptail.stop() == 0
        return {
            index: Played(server.events(), sent, stage.deleted, stage.renamed[index])
            for index, server in servers.items()
        }


@pytest.fixture(params=INDEXES)
def played(request: pytest.FixtureRequest, played_all: dict[str, Played]) -> Played:
    return played_all[request.param]


def follow(node: Scene, index: str, server: ApiServer) -> Kiptail:
    """A kiptail with this index; the API server has a node and a Service so far."""
    put_service(server, "default", "kubernetes", "10.96.0.1")
    put_node(server, "worker-3", "172.30.0.3")
    directory = node.directory / index
    directory.mkdir()
    kubeconfig = server.kubeconfig(directory / "kubeconfig")
    return node.kiptail(kubeconfig, "--pod-index", index, state=directory / "state", within=without_names(directory))


def play(stage: Stage) -> None:
    """Play everything, at the same time."""
    for server in stage.servers.values():
        # New ones are to come after the first list.
        server.wait_for(partial(server.requests, "GET", "/api/v1/services", status=200), message="a list of Services")
    jobs: list[Callable[[], None]] = []
    jobs += [partial(stage.hand_over, story) for story in STORIES]
    jobs += [partial(stage.crowd, crowd) for crowd in CROWDS]
    jobs += [partial(rename_both, stage, index) for index in INDEXES]
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="story") as pool:
        for ended in [pool.submit(job) for job in jobs]:
            ended.result()


def rename_both(stage: Stage, index: str) -> None:
    """One after the other: whatever has Events renamed for the one does it for the other as well."""
    stage.rename(index, NEW_SERVICE, partial(put_service, namespace="team-a", name="new", address=NEW_SERVICE))
    stage.rename(index, NEW_NODE, partial(put_node, name="worker-9", address=NEW_NODE))


def put_service(server: ApiServer, namespace: str, name: str, address: str) -> None:
    spec = {"clusterIP": address, "clusterIPs": [address]}
    server.services.put({"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def put_node(server: ApiServer, name: str, address: str) -> None:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    server.nodes.put({"metadata": {"name": name}, "spec": {}, "status": status})
    # By which the index of all pods knows the node.
    server.pods.put(pod(f"proxy-{name}", address, namespace="kube-system", node=name, host=address, host_network=True))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_senders_events_tell_of_every_packet_whoever_had_the_address(played: Played, story: Story) -> None:
    sent = played.packets(story.address)
    assert min(sent[FIRST], sent[NOBODY], sent[SECOND]) > 0
    assert played.count("client", story.address) == sum(sent.values())


@pytest.mark.parametrize("story", [GRACEFUL, GRACEFUL_SOON], ids=lambda story: story.name)
def test_what_is_sent_to_an_address_after_its_pod_has_finished_and_before_the_next_one_has_it_is_no_pods(
    played: Played, story: Story
) -> None:
    sent = played.packets(story.address)
    assert played.count(f"{story.name}-a") == sent[FIRST]
    assert played.count(f"{story.name}-b") == sent[SECOND]
    assert played.count("client", f"{story.name}-a ({story.address})") == sent[FIRST]
    assert played.count("client", f"{story.name}-b ({story.address})") == sent[SECOND]
    assert played.count("client", f"to {story.address} on") == sent[NOBODY]


@pytest.mark.parametrize("story", [FORCED], ids=lambda story: story.name)
def test_a_pod_that_was_deleted_by_force_may_have_its_address_for_its_grace_period_and_no_longer(
    played: Played, story: Story
) -> None:
    sent = played.packets(story.address)
    over = played.deleted[story] + story.grace_s + KILLED_S
    at_most = [packet for packet in played.sent if packet.lost.dst == story.address and packet.at < over]
    assert sent[FIRST] <= played.count(f"{story.name}-a") <= len(at_most)
    assert played.count(f"{story.name}-b") == sent[SECOND]
    assert played.count("client", f"{story.name}-a ({story.address})") == played.count(f"{story.name}-a")
    assert played.count("client", f"{story.name}-b ({story.address})") == sent[SECOND]
    assert played.count("client", f"to {story.address} on") >= sent[FIRST] + sent[NOBODY] - len(at_most)


@pytest.mark.parametrize("story", [FORCED_SOON], ids=lambda story: story.name)
def test_a_pod_that_was_deleted_by_force_has_its_address_until_the_next_one_has_it(
    played: Played, story: Story
) -> None:
    sent = played.packets(story.address)
    assert sent[FIRST] <= played.count(f"{story.name}-a") <= sent[FIRST] + sent[NOBODY]
    # In the second in which the next one began, it may have been either's.
    began = min(packet.at for packet in played.sent if (packet.lost.dst, packet.source_port) == (story.address, SECOND))
    either = [p for p in played.sent if p.lost.dst == story.address and began <= p.at < math.floor(began) + 1]
    assert sent[SECOND] - len(either) <= played.count(f"{story.name}-b") <= sent[SECOND]
    named = played.count("client", f"-b ({story.address})")
    assert named == sent[SECOND]


@pytest.mark.parametrize("crowd", CROWDS, ids=lambda crowd: crowd.name)
def test_what_a_pod_has_used_up_of_its_addresss_budget_is_not_held_against_the_next_one(
    played: Played, crowd: Crowd
) -> None:
    events = [e for e in played.events if e["involvedObject"]["name"] == f"{crowd.name}-b"]
    said = [(event["message"], event["count"]) for event in events]
    assert said == [(f"Packet dropped when sending traffic to {crowd.target} on port {PORT}/UDP", 1)]
    assert played.count(f"{crowd.name}-a") == len(TARGETS)
    assert played.count(f"{crowd.name}-a", "Packets dropped when sending traffic") == len(TARGETS) - 20


@pytest.mark.parametrize(("address", "name"), [(NEW_SERVICE, "service team-a/new"), (NEW_NODE, "node/worker-9")])
def test_a_service_or_node_that_is_younger_than_the_list_gets_its_name_in_the_same_event(
    played: Played, address: str, name: str
) -> None:
    nameless, seconds = played.renamed[address]
    (named,) = (event for event in played.events if address in event["message"])
    begin = "Packet dropped when sending traffic to"
    assert nameless["message"] == f"{begin} {address} on port {PORT}/UDP"
    assert named["message"] == f"{begin} {name} ({address}) on port {PORT}/UDP"
    assert seconds < RENAMED_S
    assert [named["metadata"][key] for key in ("name", "uid")] == [nameless["metadata"][key] for key in ("name", "uid")]
    assert named["count"] == sum(played.packets(address).values())
