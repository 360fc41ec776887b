"""A first start on a node whose journal holds drops already, while the API server is slow or away: all are told.

The packets, the kernel's log and journald are real. The same backlog is read by several kiptails, each with a state of
its own and an API server that has the same pods. A packet's source port says which pod had the address.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.support.kubelet import Kubelet
from tests.support.running import Kiptail, without_names
from tests.support.scene import Scene, scene
from tests.support.tally import Packet, packets

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, WEB, PASSED_ON = "10.244.6.9", "10.244.6.3", "10.244.6.4"
PORT = 9000
FIRST, SECOND = 40001, 40003
#: What each pod has for an address, and the source port of the packets that were sent to it, or that it sent.
OWNERS = {(WEB, FIRST): "web", (PASSED_ON, FIRST): "job", (PASSED_ON, SECOND): "next"}
#: What is the matter with the API server while kiptail starts.
TROUBLES = ("nothing", "slow lists", "slow lists, all pods indexed", "slow at everything", "away", "hangs")
#: Longer than an answer, and the list of pods, is waited for at the start, in seconds.
SLOW_S = 6.0


@dataclass
class Backlog:
    """What the journal holds, and when the address was passed on (seconds since the epoch)."""

    node: Scene
    packets: list[Packet]
    job_ended: float
    next_began: float

    def put_pods(self, server: ApiServer) -> None:
        """The pods as they are after all that: the one that has finished still shows its address."""
        kubelet = Kubelet(server)
        for name, address in (("client", CLIENT), ("web", WEB), ("job", PASSED_ON)):
            kubelet.run(name, address)
        kubelet.finish("job", at=self.job_ended)
        kubelet.run("next", PASSED_ON, at=self.next_began)

    def expected(self) -> dict[str, Counter[str]]:
        """How many packets each pod lost, by the pod at the other end."""
        found: dict[str, Counter[str]] = {}
        for packet in self.packets:
            sends = packet.lost.src != CLIENT
            other = OWNERS[packet.lost.src if sends else packet.lost.dst, packet.source_port]
            found.setdefault("client", Counter())[other] += 1
            found.setdefault(other, Counter())["client"] += 1
        return found


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backlog]:
    directory = tmp_path_factory.mktemp("backlog")
    with scene(directory, {"client": [CLIENT], "web": [WEB, PASSED_ON]}) as node:
        for _ in range(5):
            node.drop(CLIENT, WEB, PORT, source_port=FIRST)
            node.drop(CLIENT, PASSED_ON, PORT, source_port=FIRST)
            node.drop(PASSED_ON, CLIENT, PORT, source_port=FIRST)
            time.sleep(0.2)
        ended = time.time()
        _next_second()
        # Meanwhile nobody has that address.
        node.drop(CLIENT, WEB, PORT, source_port=FIRST)
        _next_second()
        began = time.time()
        for _ in range(7):
            node.drop(CLIENT, WEB, PORT, source_port=FIRST)
            node.drop(CLIENT, PASSED_ON, PORT, source_port=SECOND)
            node.drop(PASSED_ON, CLIENT, PORT, source_port=SECOND)
            time.sleep(0.2)
        sent = packets(node.journald, node.prefix)
        assert len(sent) == node.sent
        yield Backlog(node, sent, ended, began)


def test_a_first_start_tells_all_of_a_backlog_to_its_pods_however_late_the_list_of_pods_is(
    backlog: Backlog, tmp_path: Path
) -> None:
    def start(number: int) -> dict[str, Counter[str]]:
        return _told(backlog, tmp_path / str(number), TROUBLES[number])

    with ThreadPoolExecutor(len(TROUBLES), thread_name_prefix="start") as pool:
        told = dict(zip(TROUBLES, pool.map(start, range(len(TROUBLES))), strict=True))
    expected = backlog.expected()
    assert sum(expected["client"].values()) == len(backlog.packets)
    assert told == dict.fromkeys(TROUBLES, expected)


def _told(backlog: Backlog, directory: Path, trouble: str) -> dict[str, Counter[str]]:
    """How many packets each pod's Events tell of, by the pod that they name; after a start with this trouble."""
    directory.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        backlog.put_pods(server)
        if trouble.startswith("slow lists"):
            server.faults.delay(SLOW_S, path="/api/v1/pods", count=3)
        elif trouble == "slow at everything":
            server.faults.delay(SLOW_S, count=6)
        elif trouble == "away":
            server.stop()
        elif trouble == "hangs":
            server.freeze()
        index = "cluster" if "all pods" in trouble else "node"
        kubeconfig = server.kubeconfig(directory / "kubeconfig")
        arguments = backlog.node.arguments(kubeconfig, "--pod-index", index, state=directory / "state")
        kiptail = stack.enter_context(Kiptail(directory, *arguments, within=without_names(directory)))
        if trouble in ("away", "hangs"):
            kiptail.watch(SLOW_S)
            kiptail.wait_for(lambda: kiptail.counted == len(backlog.packets), "all are counted meanwhile")
            assert server.events() == []
        if trouble == "away":
            server.start()
        elif trouble == "hangs":
            server.thaw()
        # At both ends.
        total = 2 * len(backlog.packets)
        kiptail.wait_for(
            lambda: sum(e.get("count", 0) for e in server.events()) >= total, f"{total} packets", timeout=60
        )
        # What would turn out to be wrong by now does so within seconds.
        kiptail.watch(3.0)
        assert kiptail.stop() == 0
        return _by_pod(server.events())


def _by_pod(events: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for event in events:
        named = [word for word in event["message"].split() if word.startswith("team-a/")]
        other = named[0].removeprefix("team-a/") if len(named) == 1 else event["message"]
        found.setdefault(event["involvedObject"]["name"], Counter())[other] += event.get("count", 0)
    return found


def _next_second() -> None:
    """Return when another second has begun: of the one in which a pod ended, nobody could tell whose the rest was."""
    time.sleep(math.ceil(time.time()) - time.time() + 0.01)
