"""The main job on the real thing: packets, kernel, journald, kiptail as a process, and kubectl."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer, Request
from tests.apiserver.certificates import authority
from tests.support.journald import Journald, kmsg
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, CLIENT6 = "10.244.1.9", "fd00:10:244:1::9"
WEB, WEB6 = "10.244.1.3", "fd00:10:244:1::3"


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    """Two pods whose new connections are all dropped; the prefix is ours alone, for the kernel log is everyone's."""
    with network() as net:
        net.add_pod("client", CLIENT, CLIENT6)
        net.add_pod("web-0", WEB, WEB6)
        net.drop("calico-drop: ", "ct state new")
        yield net


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    with Journald(tmp_path / "journald") as daemon:
        yield daemon


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.pods.put(pod("client", CLIENT, CLIENT6))
        server.pods.put(pod("web-0", WEB, WEB6))
        yield server


class Node:
    """Everything that kiptail is started with."""

    def __init__(self, directory: Path, journald: Journald, server: ApiServer) -> None:
        self.directory, self.journald, self.server = directory, journald, server
        token = server.add_user("kiptail")
        server.grant("kiptail", "get list watch", "pods")
        server.grant("kiptail", "create patch", "events")
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig", token=token)

    def kiptail(self, *arguments: object, **environment: str) -> Kiptail:
        return Kiptail(
            self.directory,
            "--kubeconfig", self.kubeconfig,
            "--journal-directory", self.journald.directory,
            "--state-directory", self.directory / "state",
            "--prefix", "calico-drop:",
            "--node-name", "worker-3",
            "--since", "now",
            "--metrics-address", "off",
            *arguments,
            **environment,
        )  # fmt: skip

    def counts(self, about: str = "") -> dict[tuple[str, str], int]:
        """Counts by pod and text, of the Events whose text holds ``about``."""
        return {
            (event["involvedObject"]["name"], event["message"]): event["count"]
            for event in self.server.events()
            if about in event["message"]
        }

    def both_ends(self, about: str, count: int) -> Callable[[], bool]:
        """Each of the two pods has one Event about this, with this count."""
        return self.both_ends_of(about, "client", "web-0", count=count)

    def both_ends_of(self, about: str, *names: str, count: int = 1) -> Callable[[], bool]:
        """Each of these pods, and nobody else, has one Event about this, with this count."""

        def told() -> bool:
            found = self.counts(about)
            return sorted(name for name, _ in found) == sorted(names) and set(found.values()) == {count}

        return told

    def describe(self, name: str) -> str:
        """What an application owner sees."""
        kubeconfig = self.server.kubeconfig(self.directory / "admin")
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(kubeconfig), "describe", "pod", "-n", "team-a", name],
            capture_output=True, text=True, timeout=60, check=True,
            env=os.environ | {"HOME": str(self.directory)},
        )  # fmt: skip
        return done.stdout


@pytest.fixture
def node(tmp_path: Path, journald: Journald, server: ApiServer) -> Node:
    return Node(tmp_path, journald, server)


def test_every_kind_of_drop_shows_in_kubectl_describe_at_both_ends(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 8080)
        wires.send("client", "udp", WEB, 53)
        wires.send("client", "ping", WEB)
        wires.send("client", "tcp", WEB6, 8443)
        wires.send("client", "ping", WEB6)
        kiptail.wait_for(lambda: len(node.counts()) == 10, "ten Events")
    sender, receiver = node.describe("client"), node.describe("web-0")
    for about in (
        rf"{WEB}\) on port 8080/TCP",
        rf"{WEB}\) on port 53/UDP",
        rf"{WEB}\), ICMP echo-request",
        rf"{WEB6}\) on port 8443/TCP",
        rf"{WEB6}\), ICMPv6 echo-request",
    ):
        line = r"Warning +PacketDrop .* kiptail +Packet dropped when "
        assert re.search(rf"{line}sending traffic to team-a/web-0 \({about}", sender), sender
        back = about.replace(WEB6, CLIENT6).replace(WEB, CLIENT)
        assert re.search(rf"{line}receiving traffic from team-a/client \({back}", receiver), receiver


def test_repeats_are_one_event_with_their_number_and_another_port_is_another(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 7001)
        kiptail.wait_for(node.both_ends("7001/TCP", 1), "the first")
        wires.send("client", "tcp", WEB, 7001, count=36)
        wires.send("client", "tcp", WEB, 7002)
        kiptail.wait_for(node.both_ends("7001/TCP", 37), "37 of one flow")
        kiptail.wait_for(node.both_ends("7002/TCP", 1), "the other port")
    assert "(x37 over" in node.describe("web-0")
    (event,) = [e for e in node.server.events() if "7001" in e["message"] and "sending" in e["message"]]
    assert event["firstTimestamp"] <= event["lastTimestamp"]
    assert event["involvedObject"]["uid"]
    assert event["related"]["name"] == "web-0"


def forged(port: int) -> str:
    """All that the kernel would print of a packet from the one pod to the other."""
    return (
        f"calico-drop: IN=eth0 OUT=eth1 MAC= SRC={CLIENT} DST={WEB} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
        f" SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
    )


def test_forged_entries_make_no_event(wires: Network, node: Node) -> None:
    line = forged(6666)
    with node.kiptail() as kiptail:
        node.journald.systemd_cat("kernel", line)
        node.journald.send_native({"MESSAGE": line, "SYSLOG_FACILITY": "0", "SYSLOG_IDENTIFIER": "kernel"})
        kmsg(line)
        kmsg(f"kernel: {line}")  # journald takes the first word for the program's name
        wires.send("client", "tcp", WEB, 6667)
        kiptail.wait_for(node.both_ends("6667/TCP", 1), "the real one")
    assert node.counts("6666") == {}
    assert len(node.counts()) == 2


def test_drops_while_kiptail_was_stopped_are_told_once_also_across_rotation_and_vacuum(
    wires: Network, node: Node
) -> None:
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 5001)
        kiptail.wait_for(node.both_ends("5001/TCP", 1), "before the stop")
        assert kiptail.stop() == 0
    wires.send("client", "tcp", WEB, 5001, count=2)
    wires.send("client", "tcp", WEB, 5002, count=3)
    time.sleep(0.5)
    node.journald.sync()
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.both_ends("5002/TCP", 3), "while stopped")
        kiptail.wait_for(node.both_ends("5001/TCP", 3), "the flow that went on")
        assert kiptail.stop() == 0
    node.journald.rotate()
    node.journald.vacuum()
    wires.send("client", "tcp", WEB, 5003)
    time.sleep(0.5)
    node.journald.sync()
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.both_ends("5003/TCP", 1), "after the vacuum")
        wires.send("client", "tcp", WEB, 5004)
        kiptail.wait_for(node.both_ends("5004/TCP", 1), "live again")
    assert node.both_ends("5001/TCP", 3)()
    assert node.both_ends("5002/TCP", 3)()
    assert len(node.counts()) == 8


def test_rotation_and_vacuum_under_a_running_kiptail_lose_nothing(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail:
        for round_ in range(3):
            wires.send("client", "tcp", WEB, 4001)
            node.journald.rotate()
            wires.send("client", "tcp", WEB, 4002)
            kiptail.wait_for(lambda: node.counts("4002/TCP"), f"round {round_}")
            node.journald.vacuum()
        kiptail.wait_for(node.both_ends("4001/TCP", 3), "all three")
        kiptail.wait_for(node.both_ends("4002/TCP", 3), "all three")


def test_a_drop_while_the_index_is_loading_is_told_correctly_once_it_has_loaded(wires: Network, node: Node) -> None:
    # Longer than a start waits for it before it reads.
    loading = node.server.faults.delay(30.0, path="/api/v1/pods")
    with node.kiptail() as kiptail:
        wires.send("client", "udp", WEB, 3001, count=4)
        time.sleep(1.0)
        assert node.counts() == {}
        kiptail.wait_for(lambda: any("wait for the list" in note for note in kiptail.notes), "STATUS says so")
        loading.remove()
        kiptail.wait_for(node.both_ends("3001/UDP", 4), "once it has loaded")
    assert len(node.counts()) == 2


def now_text() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_a_successor_is_not_blamed_and_the_predecessor_no_longer(wires: Network, node: Node) -> None:
    with node.kiptail("--repeat-interval", "1s") as kiptail:
        wires.send("client", "tcp", WEB, 9001, count=2)
        kiptail.wait_for(node.both_ends("9001/TCP", 2), "the first owner")
        node.server.pods.delete("web-0", namespace="team-a")
        time.sleep(2.5)
        node.server.pods.put(pod("web-1", WEB, WEB6, start=now_text()))
        time.sleep(2.5)
        wires.send("client", "tcp", WEB, 9001, count=3)
        about = f"({CLIENT}) on port 9001/TCP"
        kiptail.wait_for(lambda: len(node.counts(about)) == 2, "the second owner")
    text = f"Packet dropped when receiving traffic from team-a/client {about}"
    assert node.counts(about) == {("web-0", text): 2, ("web-1", text): 3}


def test_a_successor_that_came_while_kiptail_was_down_is_not_blamed(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 9002)
        kiptail.wait_for(node.both_ends("9002/TCP", 1), "the first owner")
    wires.send("client", "tcp", WEB, 9003)
    time.sleep(4)  # times of pods are whole seconds, and within two of a change of hands nobody is sure
    node.server.pods.delete("web-0", namespace="team-a")
    node.server.pods.put(pod("web-1", WEB, WEB6, start=now_text()))
    time.sleep(2.5)
    wires.send("client", "tcp", WEB, 9004)
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.both_ends_of("9004/TCP", "client", "web-1"), "what the second owner lost")
        kiptail.wait_for(lambda: node.counts("9003/TCP"), "what the first owner lost")
    blamed = {name for name, text in node.counts() if "9003" in text or "9002" in text}
    assert "web-1" not in blamed


def test_the_node_is_named_and_host_network_pods_are_not_blamed(wires: Network, node: Node) -> None:
    node.server.pods.delete("web-0", namespace="team-a")
    node.server.pods.put(pod("agent", WEB, host_network=True, host=WEB))
    node.server.pods.put(pod("done", WEB, phase="Succeeded"))
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 9005)
        kiptail.wait_for(lambda: node.counts("9005/TCP"), "the sender's")
    text = f"Packet dropped when sending traffic to node/worker-3 ({WEB}) on port 9005/TCP"
    assert node.counts("9005/TCP") == {("client", text): 1}


def test_it_tells_systemd_how_it_is(wires: Network, node: Node) -> None:
    kiptail = Kiptail(
        node.directory,
        "--kubeconfig", node.kubeconfig, "--journal-directory", node.journald.directory,
        "--state-directory", node.directory / "state", "--prefix", "calico-drop:", "--metrics-address", "off",
        WATCHDOG_USEC="400000",
    )  # fmt: skip
    with kiptail:
        kiptail.wait_for(lambda: kiptail.notes.count("WATCHDOG=1") > 5, "the watchdog is fed")
        begin = time.monotonic()
        assert kiptail.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begin < 1.5
    assert "STOPPING=1" in kiptail.notes
    assert any(note.startswith("STATUS=") for note in kiptail.notes)


@pytest.mark.parametrize("address", ["/nonexistent/notify", "relative", "@nobody-listens-here"])
def test_a_notification_socket_that_is_gone_harms_nothing(wires: Network, node: Node, address: str) -> None:
    kiptail = node.kiptail(NOTIFY_SOCKET=address)
    kiptail.wait_for(lambda: "reading" in kiptail.log, "it runs")
    wires.send("client", "tcp", WEB, 2100)
    kiptail.wait_for(node.both_ends("2100/TCP", 1), "it works")
    assert kiptail.stop() == 0


def test_a_stop_while_the_api_server_hangs_is_prompt_and_loses_nothing(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail, node.server.faults.hang(method="POST", path="/api/v1/namespaces"):
        wires.send("client", "tcp", WEB, 2200, count=2)
        kiptail.wait_for(lambda: node.server.requests("POST", "/api/v1/namespaces/team-a/events"), "a request hangs")
        begin = time.monotonic()
        assert kiptail.stop() == 0
        assert time.monotonic() - begin < 5
    with node.kiptail() as kiptail:
        kiptail.wait_for(node.both_ends("2200/TCP", 2), "told after the next start")


def test_a_cluster_that_is_away_is_no_error_and_nothing_is_lost(wires: Network, node: Node) -> None:
    node.server.stop()
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 2001, count=5)
        time.sleep(1.0)
        kiptail.stop()
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 2001, count=5)
        time.sleep(0.5)
        node.server.start()
        kiptail.wait_for(node.both_ends("2001/TCP", 10), "all ten once the cluster is back")


def test_crashes_at_any_moment_neither_lose_nor_double(wires: Network, node: Node) -> None:
    chance = random.Random()
    sent: Counter[int] = Counter()
    base = chance.randrange(10_000, 30_000)  # not what an earlier run left in the kernel's ring buffer
    with node.kiptail():
        pass  # where it begins is stored: no later drop is before where the next run begins
    for _ in range(8):
        kiptail = node.kiptail("--repeat-interval", "1s")
        for _ in range(chance.randrange(2, 6)):
            port, count = base + chance.randrange(10), chance.randrange(1, 40)
            wires.send("client", "udp", WEB, port, count=count)
            sent[port] += count
        time.sleep(chance.uniform(0.0, 1.0))
        kiptail.kill()
    expected = {f"({WEB}) on port {port}/UDP": count for port, count in sent.items()}
    with node.kiptail("--repeat-interval", "1s") as kiptail:
        for about, count in expected.items():
            told = partial(node.counts, about)
            what = f"{count} {about} of {dict(sent)}, not {node.counts()}"
            kiptail.wait_for(lambda told=told, count=count: list(told().values()) == [count], what)  # type: ignore[misc]
    assert len(node.counts()) == 2 * len(sent), "no Event twice"
    assert sum(node.counts().values()) == 2 * sum(sent.values())


def test_the_counts_of_an_outage_are_delivered_in_full(wires: Network, node: Node) -> None:
    with node.kiptail("--repeat-interval", "1s") as kiptail:
        wires.send("client", "tcp", WEB, 1001)
        kiptail.wait_for(node.both_ends("1001/TCP", 1), "before the outage")
        with node.server.faults.status(503, method="PATCH"), node.server.faults.status(503, method="POST"):
            wires.send("client", "tcp", WEB, 1001, count=9)
            wires.send("client", "tcp", WEB, 1002, count=2)
            time.sleep(3.0)
        kiptail.wait_for(node.both_ends("1001/TCP", 10), "the count")
        kiptail.wait_for(node.both_ends("1002/TCP", 2), "the new flow")


def test_the_state_is_for_its_owner_only(wires: Network, node: Node) -> None:
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 1003)
        kiptail.wait_for(node.both_ends("1003/TCP", 1), "a drop")
    modes: dict[str, Any] = {p.name: p.stat().st_mode & 0o777 for p in (node.directory / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    assert (node.directory / "state").stat().st_mode & 0o777 == 0o700


class Lookups:
    """web-0 is another node's pod; what is asked about it."""

    def __init__(self, node: Node) -> None:
        self._server = node.server
        node.server.pods.put(pod("web-0", WEB, node="worker-9", host="198.51.100.9"))

    @staticmethod
    def meant(request: Request) -> bool:
        return "status.podIP" in request.query.get("fieldSelector", "")

    def __len__(self) -> int:
        return len([request for request in self._server.requests() if self.meant(request)])


def test_the_other_nodes_pod_is_looked_up_once_and_told(wires: Network, node: Node) -> None:
    lookups = Lookups(node)
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 2301, count=5)
        kiptail.wait_for(node.both_ends("2301/TCP", 5), "both ends")
        wires.send("client", "tcp", WEB, 2301, count=5)
        wires.send("client", "tcp", WEB, 2302)
        kiptail.wait_for(node.both_ends("2302/TCP", 1), "another port")
    assert len(lookups) == 1


def test_a_late_answer_mends_the_text_and_tells_the_other_end(wires: Network, node: Node) -> None:
    lookups = Lookups(node)
    with node.kiptail("--repeat-interval", "1s") as kiptail, node.server.faults.hang(match=lookups.meant) as hanging:
        wires.send("client", "tcp", WEB, 2311)
        bare = f"Packet dropped when sending traffic to {WEB} on port 2311/TCP"
        kiptail.wait_for(lambda: node.counts("2311") == {("client", bare): 1}, "this end, with the bare address")
        hanging.release()
        kiptail.wait_for(node.both_ends("2311/TCP", 1), "the other end")
        named = f"Packet dropped when sending traffic to team-a/web-0 ({WEB}) on port 2311/TCP"
        kiptail.wait_for(lambda: ("client", named) in node.counts("2311"), "the text")
    assert len(node.counts("2311")) == 2


def test_a_hanging_look_up_holds_up_no_other_flow(wires: Network, node: Node) -> None:
    lookups = Lookups(node)
    node.server.pods.put(pod("near", WEB6))
    with node.kiptail() as kiptail, node.server.faults.hang(match=lookups.meant):
        wires.send("client", "tcp", WEB, 2321)
        wires.send("client", "tcp", WEB6, 2322)
        kiptail.wait_for(lambda: node.counts("2321"), "with the bare address, in the end")
        told = [request.body for request in node.server.requests("POST", "/api/v1/namespaces/team-a/events")]
        assert [b"2322" in body for body in told[:3]] == [True, True, False], "the later one first"


def test_a_kubelets_credential_is_enough(wires: Network, node: Node) -> None:
    lookups = Lookups(node)
    node.kubeconfig = node.server.kubeconfig(
        node.directory / "kubelet", client=("system:node:worker-3", "system:nodes")
    )
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 2331)
        kiptail.wait_for(lambda: node.counts("2331"), "this end")
        (told,) = node.counts("2331")
        assert told == ("client", f"Packet dropped when sending traffic to {WEB} on port 2331/TCP")
        wires.send("client", "tcp", WEB, 2332)
        kiptail.wait_for(lambda: node.counts("2332"), "the next")
        assert len(lookups) == 1
        assert kiptail.log.count("kiptail manifests --identity kubelet | kubectl") == 1
    node.server.grant("system:nodes", "list", "pods")
    with node.kiptail() as kiptail:
        wires.send("client", "tcp", WEB, 2333)
        kiptail.wait_for(node.both_ends("2333/TCP", 1), "both ends, once look-ups are granted")


@pytest.mark.parametrize("kind", ["token", "certificate"])
def test_rotated_credentials_are_picked_up(wires: Network, node: Node, kind: str) -> None:
    Lookups(node)
    current = node.directory / "current"

    def rotate(name: str) -> None:
        if kind == "token":
            (node.directory / "new").write_text(node.server.add_user(name, "kiptails") + "\n")
        else:
            pair = authority().client(name, "kiptails")
            (node.directory / "new").write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
        (node.directory / "new").rename(current)

    node.server.grant("kiptails", "list watch", "pods")
    node.server.grant("kiptails", "create patch", "events")
    rotate("first")
    user = {"client-certificate": str(current), "client-key": str(current)}
    if kind == "token":
        node.kubeconfig = node.server.kubeconfig(node.directory / "rotated", token_file=current)
    else:
        node.kubeconfig = node.server.kubeconfig(node.directory / "rotated", user=user)
    with node.kiptail("--node-name", "worker-3") as kiptail:
        wires.send("client", "tcp", WEB, 2341)
        kiptail.wait_for(node.both_ends("2341/TCP", 1), "with the first")
        rotate("second")
        time.sleep(3.5)  # how often files are looked at
        wires.send("client", "tcp", WEB, 2342)
        kiptail.wait_for(node.both_ends("2342/TCP", 1), "with the second")
        node.server.disturb("cut")
        kiptail.wait_for(lambda: node.server.requests(user="second", verb="watch", status=200), "the watch as well")
    assert not node.server.requests(status=401)
    assert {request.user for request in node.server.requests("POST", "/api/v1/namespaces/team-a/events")} == {
        "first",
        "second",
    }
