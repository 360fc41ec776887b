"""Policies that log lines name, on the real thing: rules of three firewalls, packets, kernel, journald, Events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.support.journald import Journald
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail
from tests.support.scrape import free_port, get

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, iptables and journald"),
]

CLIENT, WEB = "10.244.1.9", "10.244.1.3"

#: As Calico's nftables mode (`logPrefix: cd %k %p`), Antrea's node policies and, in iptables, k3s have them.
CONFIGURATION = """
[[prefixes]]
text = "cd {kind} {namespace}/{name}:"
limited = true

[[prefixes]]
text = "Antrea:{direction}:{verdict}:{label?}:"

[[prefixes]]
text = "DROP by policy {policy}"
"""
#: The kernel has room for 29 bytes of an iptables rule's prefix.
TOO_LONG = "DROP by policy default/test-no-egress"
LIMITED = "; the rule logs at a limited rate, so there may have been more packets"


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    """Two pods, and a port for each rule."""
    with network() as net:
        net.add_pod("client", CLIENT)
        net.add_pod("web-0", WEB)
        net.drop("cd knp team-a/deny: ", "tcp dport 8001")
        net.drop("cd gnp other/deny: ", "udp dport 8001")
        net.drop("Antrea:I:Drop:deny-x:", "tcp dport 8002")
        net.reject("Antrea:O:Reject:", "tcp dport 8003")
        net.log("Antrea:I:Allow:", "udp dport 8004")
        net.drop_by_iptables(TOO_LONG, "-p", "tcp", "--dport", "8005")
        yield net


def test_events_name_the_policy_and_say_what_became_of_the_packet(wires: Network, tmp_path: Path) -> None:
    configuration = tmp_path / "kiptail.toml"
    configuration.write_text(CONFIGURATION)
    port = free_port()
    with ApiServer() as server, Journald(tmp_path / "journald") as journald:
        server.pods.put(pod("client", CLIENT))
        server.pods.put(pod("web-0", WEB))
        with Kiptail(
            tmp_path,
            "--config", configuration, "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"),
            "--journal-directory", journald.directory, "--state-directory", tmp_path / "state",
            "--node-name", "worker-3", "--since", "now", "--metrics-address", f"127.0.0.1:{port}",
        ) as kiptail:  # fmt: skip
            wires.send("client", "udp", WEB, 8004, count=2)
            for number in (8001, 8002, 8003, 8005):
                wires.send("client", "tcp", WEB, number)
            wires.send("client", "udp", WEB, 8001, count=3)
            kiptail.wait_for(lambda: len(server.events()) == 10, "five flows' Events at both ends")
            told = [(e["involvedObject"]["name"], e["message"], e["count"]) for e in server.events()]
            metrics = get(port)[1].splitlines()
    expected = []
    for verb, about, count in (
        ("dropped", f"on port 8001/TCP, by policy team-a/deny{LIMITED}", 1),
        ("dropped", f"on port 8001/UDP, by policy other/deny{LIMITED}", 3),
        ("dropped", "on port 8002/TCP", 1),
        ("rejected", "on port 8003/TCP", 1),
        ("dropped", "on port 8005/TCP, by policy default/test-n…", 1),
    ):
        expected += [
            ("client", f"Packet {verb} when sending traffic to team-a/web-0 ({WEB}) {about}", count),
            ("web-0", f"Packet {verb} when receiving traffic from team-a/client ({CLIENT}) {about}", count),
        ]
    assert sorted(told) == sorted(expected)
    for line in (
        'kiptail_policy_drops_total{policy="team-a/deny",verdict="drop"} 1.0',
        'kiptail_policy_drops_total{policy="other/deny",verdict="drop"} 3.0',
        'kiptail_drops_total{protocol="UDP",verdict="accept"} 2.0',
        'kiptail_drops_total{protocol="TCP",verdict="reject"} 1.0',
    ):
        assert line in metrics
