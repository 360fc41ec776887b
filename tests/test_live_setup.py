"""`kiptail setup` on the real thing: what it prints for a node is a configuration with which the Events come."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.support.journald import Journald
from tests.support.netns import Network, network, within
from tests.support.pods import pod
from tests.support.running import Kiptail, _environment, without_names

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, WEB = "10.244.1.9", "10.244.1.3"
#: By what becomes of a logged packet.
DROPPED, REJECTED, LIMITED, PASSED, QUEUED = 53, 54, 55, 56, 57

#: Of two kinds of firewall: iptables' rules as somebody writes them, and nft's as firewalld does.
IPTABLES = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -p udp -m udp --dport 53 -j LOG --log-prefix "{token}-{{x}} drop: "
-A FORWARD -p udp -m udp --dport 53 -j DROP
COMMIT
*mangle
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p udp -m udp --dport 57 -j LOG --log-prefix "{token}-queue: "
-A POSTROUTING -p udp -m udp --dport 57 -j NFQUEUE --queue-num 77
COMMIT
"""
NFT = """
table inet firewalld {{
    chain filter_FORWARD {{
        type filter hook forward priority 10; policy accept;
        iifname "p*" jump filter_FWD_{token}
    }}
    chain filter_FWD_{token} {{
        udp dport 54 log prefix "filter_FWD_{token}_REJECT: "
        udp dport 54 reject with icmpx admin-prohibited
        udp dport 55 limit rate 100/second burst 50 packets log prefix "filter_FWD_{token}_DROP: "
        udp dport 55 drop
        udp dport 58 log group 58
        udp dport 58 drop
    }}
    chain filter_POSTROUTING {{
        type filter hook postrouting priority 200; policy accept;
        udp dport 56 log prefix "{token}-pass: "
        udp dport 56 accept
    }}
}}
"""


class Node:
    """A namespace with these rules between two pods, a journal, and a cluster that can be reached from there."""

    def __init__(self, net: Network, journald: Journald, server: ApiServer, directory: Path) -> None:
        self.net, self.journald, self.directory = net, journald, directory
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig")
        self.into = ("nsenter", f"--net=/run/netns/{net.node}")
        self.arguments = ("--journal-directory", str(journald.directory))

    def run(self, *arguments: object, code: int = 0) -> str:
        """A command of kiptail's, which sees the node's rules."""
        command = [*self.into, sys.executable, "-m", "kiptail", *map(str, arguments), *self.arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=_environment({}))
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def load(self, *command: str, text: str) -> None:
        done = subprocess.run([*self.into, *command], input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Node, ApiServer]]:
    with network() as net, Journald(tmp_path / "journald") as journald:
        net.add_pod("client", CLIENT)
        net.add_pod("web", WEB)
        server = ApiServer()
        within(net.node, server.start)
        try:
            for name, address in (("client", CLIENT), ("web", WEB)):
                server.pods.put(pod(name, address, node="worker-3"))
            yield Node(net, journald, server, tmp_path), server
        finally:
            within(net.node, server.close)


def test_what_setup_prints_is_a_configuration_with_which_the_events_come(
    node: tuple[Node, ApiServer], tmp_path: Path
) -> None:
    here, server = node
    token = f"kt{secrets.token_hex(3)}"
    here.load("iptables-restore", text=IPTABLES.format(token=token))
    here.load("nft", "-f", "-", text=NFT.format(token=token))

    text = here.run("setup")
    document = tomllib.loads(text)
    assert document == {
        "profile": ["firewalld"],
        "prefixes": [{"text": f"{token}-{{{{x}}}} drop:", "verdict": "drop"}],
        "nflog": [{"group": 58, "verdict": "drop"}],
    }
    assert f'#text = "{token}-pass:"\n#verdict = "accept"\n' in text
    flat = " ".join(text.replace("\n#", " ").split())
    assert f"'filter_FWD_{token}_REJECT:' (nftables inet firewalld filter_FWD_{token}), not seen" in flat
    assert "a drop follows; its rule logs at a limited rate, so there are more packets than lines" in flat
    assert (
        f"'{token}-queue:' (iptables mangle POSTROUTING), not seen in the last day: the rules do not say what follows"
        in flat
    )

    config = tmp_path / "etc" / "kiptail.toml"
    here.run("--config", config, "setup", "--write")
    assert config.read_text() == text
    into = (*without_names(tmp_path), *here.into)
    arguments = ("--config", config, "--kubeconfig", here.kubeconfig, "--node-name", "worker-3", *here.arguments)
    arguments += ("--state-directory", tmp_path / "state", "--metrics-address", "off", "--repeat-interval", "1s")
    expected = {
        f"Packet {what} when sending traffic to team-a/web ({WEB}) on port {port}/UDP"
        for what, port in (("dropped", DROPPED), ("rejected", REJECTED), ("dropped", LIMITED))
    }

    def texts() -> set[str]:
        return {e["message"] for e in server.events() if e["involvedObject"]["name"] == "client"}

    with Kiptail(tmp_path, *arguments, "--since", "now", within=into) as kiptail:
        for _ in range(4):
            for port in (DROPPED, REJECTED, LIMITED, PASSED, QUEUED):
                here.net.send("client", "udp", WEB, port)
        kiptail.wait_for(lambda: expected <= texts(), f"{expected} in {texts()}")
        kiptail.watch(1.0)
        assert texts() == expected
    topics = ("--output", "json", "--kubeconfig", here.kubeconfig, "--node-name", "worker-3")
    report = json.loads(here.run("check", "--config", config, *topics, "--state-directory", tmp_path / "state"))
    found = [finding for finding in report["findings"] if finding["topic"] == "prefixes"]
    assert len(found) >= 2
    assert {finding["level"] for finding in found} == {"ok"}, found
    place = f"nftables inet firewalld filter_FWD_{token}"
    texts_of_check = {finding["text"]: finding["level"] for finding in report["findings"]}
    assert texts_of_check[f"NFLOG group 58, without a prefix: a drop follows ({place})"] == "ok"


def test_without_rules_that_log_it_says_how_to_get_them(node: tuple[Node, ApiServer]) -> None:
    here, _ = node
    here.load("nft", "-f", "-", text="add rule inet kiptail forward udp dport 53 drop\n")
    assert "kiptail rules --for nftables" in here.run("setup", code=1)


def test_who_is_not_root_is_told_so(node: tuple[Node, ApiServer]) -> None:
    here, _ = node
    command = [*here.into, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    # The source may be in a directory that only root can look into.
    command += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    command += [sys.executable, "-m", "kiptail", "setup"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=_environment({}))
    assert done.returncode == 1
    assert done.stderr == "kiptail: the firewall's rules can be read by root only: run `kiptail setup` as root\n"
