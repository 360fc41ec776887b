"""What can be read in the text of an Event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.drops.sentence import Sentence, is_withdrawn, read_sentence
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import message
from kiptail.flows.flow import Distinct, Spread
from tests.support.drops import SERVER, STYLE, flow_of


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Packet dropped when sending traffic to team-a/web-0 (10.244.1.3) on port 8080/TCP",
            Sentence("drop", "sent", peer="team-a/web-0", address="10.244.1.3", port=8080, protocol="TCP"),
        ),
        (
            "Packet rejected when receiving traffic from 192.0.2.7, protocol GRE",
            Sentence("reject", "received", peer="192.0.2.7", protocol="GRE"),
        ),
        (
            "Packet dropped when receiving traffic from team-a/web-0 (fd00::1), ICMPv6 destination-unreachable"
            " (port-unreachable)",
            Sentence("drop", "received", peer="team-a/web-0", address="fd00::1", protocol="ICMPv6",
                     icmp="destination-unreachable (port-unreachable)"),
        ),
        (
            "Packet dropped when sending a reply to team-a/client (10.244.1.9) from port 8080/TCP, by policy deny",
            Sentence("drop", "sent", reply=True, peer="team-a/client", address="10.244.1.9", port=8080, protocol="TCP",
                     policy="deny"),
        ),
        (
            'Packet dropped when sending traffic to 192.0.2.7 on port 80/TCP, by policy "two words"; the rule logs at a'
            " limited rate, so there may have been more packets",
            Sentence("drop", "sent", peer="192.0.2.7", port=80, protocol="TCP", policy="two words"),
        ),
        (
            "Packet rejected when sending traffic to 192.0.2.7 on port 80/TCP, by policies a/x, b/y: no rule of"
            " NetworkPolicy x allows it",
            Sentence("reject", "sent", peer="192.0.2.7", port=80, protocol="TCP", policy="a/x, b/y",
                     why="no rule of NetworkPolicy x allows it"),
        ),
        (
            "Packet rejected when sending traffic to 192.0.2.7 on port 80/TCP, by policies a/x, b/y, c/z; the rule logs"
            " at a limited rate, so there may have been more packets",
            Sentence("reject", "sent", peer="192.0.2.7", port=80, protocol="TCP", policy="a/x, b/y, c/z"),
        ),
        (
            "Packet dropped when receiving traffic from node/n1 (192.0.2.1) on port 80/TCP"
            " (the kubelet's probes use this port)",
            Sentence("drop", "received", peer="node/n1", address="192.0.2.1", port=80, protocol="TCP",
                     why="the kubelet's probes use this port"),
        ),
        (
            "Packet dropped when receiving traffic from team-a/web-0 (10.244.1.3) on port 80/TCP, by policy x/y:"
            " no rule of NetworkPolicy default-deny allows it",
            Sentence("drop", "received", peer="team-a/web-0", address="10.244.1.3", port=80, protocol="TCP",
                     policy="x/y", why="no rule of NetworkPolicy default-deny allows it"),
        ),
        (
            "Packets dropped when receiving traffic from more than 100 addresses on more than 20 ports",
            Sentence("drop", "received", peer="more than 100 addresses on more than 20 ports"),
        ),
        (
            "Packet dropped when sending a reply to team-a/client (10.244.1.9) from port 53/UDP (dns): isolated by x",
            Sentence("drop", "sent", reply=True, peer="team-a/client", address="10.244.1.9", port=53, protocol="UDP",
                     why="isolated by x"),
        ),
        (
            "Packet dropped when receiving traffic from 10.244.1.3 on port 80/TCP (http), by policy x/y",
            Sentence("drop", "received", peer="10.244.1.3", port=80, protocol="TCP", policy="x/y"),
        ),
        (
            "Packet dropped when sending traffic to team-b/db-0 (10.1.0.1) on port 5432/TCP (sql): no rule of"
            " NetworkPolicy default-deny allows it (also more than 1,000 other pods of deploy/web)",
            Sentence("drop", "sent", peer="team-b/db-0", address="10.1.0.1", port=5432, protocol="TCP",
                     why="no rule of NetworkPolicy default-deny allows it"),
        ),
        (
            "Packet dropped when sending traffic to 10.1.0.1 on port 5432/TCP (also more than 2 other pods of sts/a.b)"
            "; the rule logs at a limited rate, so there may have been more packets",
            Sentence("drop", "sent", peer="10.1.0.1", port=5432, protocol="TCP"),
        ),
        (
            "Packet dropped when receiving traffic from node/worker-3 (10.1.1.1) on port 8080/TCP (the kubelet's probes"
            " use this port) (also more than 2 other pods of ds/agent)",
            Sentence("drop", "received", peer="node/worker-3", address="10.1.1.1", port=8080, protocol="TCP",
                     why="the kubelet's probes use this port"),
        ),
        (
            "Packet dropped when sending traffic to node/worker-3 (192.0.2.3) on port 8080/TCP (a host port of pods of"
            " team-a, team-b and team-c): isolated by NetworkPolicy team-b/x",
            Sentence("drop", "sent", peer="node/worker-3", address="192.0.2.3", port=8080, protocol="TCP",
                     why="isolated by NetworkPolicy team-b/x"),
        ),
        # kube-iptables-tailer's.
        (
            "Packet dropped when receiving traffic from db.example.com (10.1.1.1)",
            Sentence("drop", "received", peer="db.example.com", address="10.1.1.1"),
        ),
        ("Packet dropped when sending traffic to 10.1.1.1", Sentence("drop", "sent", peer="10.1.1.1")),
        ("The packet was lost", Sentence()),
        ("", Sentence()),
    ],
)  # fmt: skip
def test_texts(text: str, said: Sentence) -> None:
    assert read_sentence(text) == said


@pytest.mark.parametrize("end", ["src", "dst"])
@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("verdict", ["drop", "reject"])
@pytest.mark.parametrize("peer", [SERVER, Endpoint(Kind.NOBODY, "fd00::7"), SERVER._replace(kind=Kind.AMBIGUOUS)])
@pytest.mark.parametrize("policy", ["", "team-b/deny", "Cluster default deny", "calico:x;y"])
def test_our_own_texts_are_read_as_they_were_meant(
    end: str, reply: bool, verdict: str, peer: Endpoint, policy: str
) -> None:
    limited = replace(STYLE, limited=frozenset({"calico-drop:"}))
    flow = flow_of(reply=reply, verdict=verdict, policy=policy)
    for style in (STYLE, limited):
        said = read_sentence(message(flow, end, peer, style))
        assert (said.direction, said.reply, said.verdict) == ("sent" if end == "src" else "received", reply, verdict)
        assert (said.address or said.peer, said.port, said.protocol) == (peer.address, 8080, "TCP")
        assert (said.policy, said.why) == (policy, "")


def test_what_is_withdrawn_says_so_and_has_no_reason() -> None:
    text = message(flow_of(), "src", SERVER, STYLE, withdrawn=True)
    assert is_withdrawn(text)
    assert read_sentence(text).why == ""
    assert not is_withdrawn(message(flow_of(), "src", SERVER, STYLE))


def test_folded_ones_have_a_peer_in_words() -> None:
    folded = replace(flow_of(dst=""), spread=Spread(Distinct(b"\xff" * 4), Distinct()))
    assert read_sentence(message(folded, "src", SERVER, STYLE)).peer == "more than 20 addresses"


@given(st.text(max_size=3_000))
def test_any_text_is_read_at_once(text: str) -> None:
    for begin in (
        "",
        "Packet dropped when sending traffic to ",
        "Packet dropped when sending traffic to a, by policy ",
    ):
        said = read_sentence(begin + text)
        assert said.port is None or said.port < 100_000


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "piece", [" on port 1", ", by policy ", ", ICMP a", " (", ": ", "a ", '"', ", protocol x", "1"]
)
def test_no_text_takes_long(piece: str) -> None:
    read_sentence("Packet dropped when sending traffic to " + piece * 2_000)
