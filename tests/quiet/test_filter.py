"""Each key of a filter, alone and together with others; what is not known leaves nothing out."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.config.ignore_tables import filter_of_text
from kiptail.flows.flow import FlowKey
from kiptail.quiet.filter import Packets, Party, Place, PodThere, matches_glob

REQUEST = FlowKey("10.244.1.9", "10.244.2.3", "TCP", 8080, None, None, False, "calico-drop:", "drop", "", "team-b/deny")
REQUEST_6 = REQUEST._replace(src="fd00:10::9", dst="fd00:10::3")
REPLY = REQUEST._replace(src="10.244.2.3", dst="10.244.1.9", reply=True, verdict="reject", policy="")
PING = REQUEST._replace(protocol="ICMP", port=None, icmp_type=8, icmp_code=0)
PING_6 = REQUEST_6._replace(protocol="ICMPv6", port=None, icmp_type=128, icmp_code=0)
UNREACHABLE = PING._replace(icmp_type=3, icmp_code=3)
GRE = REQUEST._replace(protocol="47", port=None)
#: Of a port scan: the one that it is about is the destination, or the source.
FOLDED_DST = FlowKey("", "10.244.2.3", "", None, None, None, False, "", "drop")
FOLDED_SRC = FlowKey("10.244.1.9", "", "", None, None, None, False, "", "drop")

CLIENT = Party(pods=(PodThere("team-a", {"app": "client", "tier": "test"}),))
WEB = Party(pods=(PodThere("team-b", {"app": "web"}),))
BOTH = {"src": CLIENT, "dst": WEB}
UNLABELLED = {"src": Party(pods=(PodThere("team-a"),)), "dst": WEB}
#: Either of two pods had the address.
EITHER = {"src": Party(pods=(PodThere("team-a", {"app": "x"}), PodThere("team-c", {"app": "x"}))), "dst": WEB}
NODE, SERVICE, OUTSIDE = (Party(place) for place in (Place.NODE, Place.SERVICE, Place.OUTSIDE))


@pytest.mark.parametrize(
    ("text", "key", "held"),
    [
        # src, dst and peer, by range and by address
        ("src=10.244.1.0/24", REQUEST, True),
        ("src=10.244.1.9", REQUEST, True),
        ("src=10.244.1.8", REQUEST, False),
        ("src=10.244.2.0/24", REQUEST, False),
        ("src=0.0.0.0/0", REQUEST, True),
        ("src=0.0.0.0/0", REQUEST_6, False),
        ("src=::/0", REQUEST, False),
        ("src=fd00:10::/32", REQUEST_6, True),
        ("src=fd00:10::9", REQUEST_6, True),
        ("src=fd00:10::3", REQUEST_6, False),
        ("src=10.0.0.0/8,fd00::/8", REQUEST, True),
        ("src=10.0.0.0/8,fd00::/8", REQUEST_6, True),
        ("dst=10.244.2.3", REQUEST, True),
        ("dst=10.244.1.9", REQUEST, False),
        ("dst=fd00:10::3/128", REQUEST_6, True),
        ("peer=10.244.1.9", REQUEST, True),
        ("peer=10.244.2.3", REQUEST, True),
        ("peer=10.244.3.0/24", REQUEST, False),
        ("peer=fd00:10::3,192.0.2.1", REQUEST_6, True),
        # port: the service's, also of a reply
        ("port=8080", REQUEST, True),
        ("port=8080", REQUEST_6, True),
        ("port=8080", REPLY, True),
        ("port=8081", REQUEST, False),
        ("port=8080-8080", REQUEST, True),
        ("port=8000-8079", REQUEST, False),
        ("port=8081-9000", REQUEST, False),
        ("port=22,8000-8100", REQUEST, True),
        ("port=0-65535", REQUEST, True),
        ("port=0-65535", PING, False),
        ("port=0-65535", GRE, False),
        # protocol, by name in any case and by number
        ("protocol=TCP", REQUEST, True),
        ("protocol=tcp,udp", REQUEST_6, True),
        ("protocol=6", REQUEST, True),
        ("protocol=UDP", REQUEST, False),
        ("protocol=gre", GRE, True),
        ("protocol=47", GRE, True),
        ("protocol=icmp", PING, True),
        ("protocol=icmp", PING_6, False),
        ("protocol=icmpv6", PING_6, True),
        ("protocol=58", PING_6, True),
        # icmp, by type, type/code and name
        ("icmp=8", PING, True),
        ("icmp=8/0", PING, True),
        ("icmp=8/1", PING, False),
        ("icmp=echo-request", PING, True),
        ("icmp=echo-request", PING_6, True),
        ("icmp=echo-reply", PING, False),
        ("icmp=128", PING_6, True),
        ("icmp=destination-unreachable", UNREACHABLE, True),
        ("icmp=port-unreachable", UNREACHABLE, True),
        ("icmp=host-unreachable", UNREACHABLE, False),
        ("icmp=echo-request", REQUEST, False),
        # what the rule says
        ("prefix=calico-drop:", REQUEST, True),
        ("prefix='calico-drop: '", REQUEST, True),
        ("prefix=calico", REQUEST, False),
        ("policy=team-b/deny", REQUEST, True),
        ("policy=team-b/*", REQUEST, True),
        ("policy=*", REQUEST, True),
        ("policy=team-?/deny", REQUEST, True),
        ("policy=team-b", REQUEST, False),
        ("policy=*", REPLY, False),
        ("policy=other/deny", REQUEST._replace(policy="team-b/deny, other/deny"), True),
        ("policy='team-b/deny, other/deny'", REQUEST._replace(policy="team-b/deny, other/deny"), True),
        ("verdict=drop", REQUEST, True),
        ("verdict=reject,log", REQUEST, False),
        ("verdict=reject", REPLY, True),
        ("reply=true", REPLY, True),
        ("reply=true", REQUEST, False),
        ("reply=false", REQUEST, True),
        ("reply=false", REPLY, False),
        # together: all have to hold
        ("src=10.244.1.0/24 port=8080 protocol=TCP verdict=drop", REQUEST, True),
        ("src=10.244.1.0/24 port=8081 protocol=TCP verdict=drop", REQUEST, False),
        ("src=10.244.1.0/24 port=8080 protocol=UDP verdict=drop", REQUEST, False),
        ("src=fd00::/8 dst=fd00:10::3 icmp=echo-request prefix=calico-drop:", PING_6, True),
        ("src=fd00::/8 dst=fd00:10::4 icmp=echo-request", PING_6, False),
        ("peer=10.244.2.3 reply=true port=8080", REPLY, True),
        ("peer=10.244.2.3 reply=true port=8080", REQUEST, False),
        # of a folded flow, only one address and the verdict are known
        ("dst=10.244.2.3", FOLDED_DST, True),
        ("src=0.0.0.0/0", FOLDED_DST, False),
        ("peer=10.244.2.3", FOLDED_DST, True),
        ("peer=10.244.1.9", FOLDED_DST, False),
        ("src=10.244.1.9", FOLDED_SRC, True),
        ("src=10.244.1.9 verdict=drop", FOLDED_SRC, True),
        ("src=10.244.1.9 port=0-65535", FOLDED_SRC, False),
        ("reply=false", FOLDED_SRC, False),
        ("prefix=calico-drop:", FOLDED_SRC, False),
        ("policy=*", FOLDED_SRC, False),
        ("protocol=tcp", FOLDED_SRC, False),
        ("multicast", FOLDED_SRC, False),
        ("replies", FOLDED_SRC, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_line_tells(text: str, key: FlowKey, held: bool) -> None:
    made = filter_of_text(text)
    assert not made.needs_ends
    assert made.holds(Packets.of(key)) is held


@pytest.mark.parametrize(
    ("text", "parties", "end", "held"),
    [
        ("src=node", {"src": NODE, "dst": WEB}, "dst", True),
        ("src=node", {"src": WEB, "dst": NODE}, "src", False),
        ("dst=service", {"src": CLIENT, "dst": SERVICE}, "src", True),
        ("dst=service", {"src": CLIENT, "dst": NODE}, "src", False),
        ("peer=outside", {"src": OUTSIDE, "dst": WEB}, "dst", True),
        ("peer=outside", {"src": CLIENT, "dst": OUTSIDE}, "src", True),
        ("peer=outside", BOTH, "src", False),
        ("peer=node,outside", {"src": CLIENT, "dst": NODE}, "src", True),
        ("src=node,10.244.1.0/24", BOTH, "src", True),
        ("src=node,10.244.9.0/24", BOTH, "src", False),
        ("namespace=team-a", BOTH, "src", True),
        ("namespace=team-a", BOTH, "dst", True),
        ("namespace=team-?", BOTH, "dst", True),
        ("namespace=*-b", BOTH, "dst", True),
        ("namespace=team", BOTH, "dst", False),
        ("namespace=team-c,team-b", BOTH, "src", True),
        ("namespace=team-a", {"src": NODE, "dst": WEB}, "dst", False),
        ("namespace=team-*", {"src": NODE, "dst": WEB}, "dst", True),
        ("namespace=team-a", EITHER, "dst", False),
        ("namespace=team-*", EITHER, "dst", True),
        ("pod=app=client", BOTH, "src", True),
        ("pod=app=web", BOTH, "src", True),
        ("pod=app=client,tier=test", BOTH, "src", True),
        ("pod=app=web,tier=test", BOTH, "src", False),
        ("pod='app in (web, x)'", BOTH, "dst", True),
        ("pod=app!=web", BOTH, "dst", True),
        ("pod=!tier,app", BOTH, "dst", True),
        ("pod=app=client", UNLABELLED, "src", False),
        ("pod=app!=other", {"src": Party(pods=(PodThere("team-a"),)), "dst": NODE}, "src", False),
        ("pod=app=x", EITHER, "dst", True),
        # of one and the same pod
        ("namespace=team-a pod=app=client", BOTH, "src", True),
        ("namespace=team-a pod=app=web", BOTH, "src", False),
        # the Event's own direction
        ("direction=sent", BOTH, "src", True),
        ("direction=sent", BOTH, "dst", False),
        ("direction=received", BOTH, "dst", True),
        ("namespace=team-a direction=received", BOTH, "dst", True),
        ("namespace=team-a direction=received", BOTH, "src", False),
        ("probes", {"src": NODE._replace(probes=True), "dst": WEB}, "dst", True),
        ("probes", {"src": NODE, "dst": WEB}, "dst", False),
        # with what a line tells
        ("namespace=team-a port=8080 src=10.244.1.0/24", BOTH, "src", True),
        ("namespace=team-a port=8081 src=10.244.1.0/24", BOTH, "src", False),
        ("probes port=8080", {"src": NODE._replace(probes=True), "dst": WEB}, "dst", True),
        ("probes port=8081", {"src": NODE._replace(probes=True), "dst": WEB}, "dst", False),
    ],
)
def test_what_the_ends_tell(text: str, parties: Any, end: str, held: bool) -> None:
    made = filter_of_text(text)
    assert made.needs_ends
    assert made.holds(Packets.of(REQUEST, parties=parties), end) is held
    # Whatever is written as an address of IPv4 stands for the same one of IPv6 here.
    other = filter_of_text(text.replace("10.244.1.0/24", "fd00:10::8/125").replace("10.244.9.0/24", "fd00:9::/32"))
    assert other.holds(Packets.of(REQUEST_6, parties=parties), end) is held


@pytest.mark.parametrize(
    ("text", "parties", "held"),
    [
        ("namespace=team-b", {"dst": WEB}, True),
        ("namespace=team-a", {"dst": WEB}, False),
        ("pod=app=web", {"dst": WEB}, True),
        ("direction=received", {"dst": WEB}, True),
        ("dst=10.244.2.3 namespace=team-b", {"dst": WEB}, True),
        ("src=outside", {"dst": WEB}, False),
        ("peer=outside", {"dst": WEB}, False),
        ("namespace=team-b port=8080", {"dst": WEB}, False),
        ("probes", {"dst": WEB}, False),
    ],
)
def test_of_a_folded_flow_one_end_is_known(text: str, parties: Any, held: bool) -> None:
    assert filter_of_text(text).holds(Packets.of(FOLDED_DST, parties=parties), "dst") is held


@pytest.mark.parametrize(
    ("name", "key", "reset", "held"),
    [
        ("replies", REPLY, False, True),
        ("replies", REQUEST, False, False),
        ("replies", REQUEST, True, True),
        ("replies", REPLY._replace(protocol="UDP"), False, False),
        ("multicast", REQUEST._replace(dst="224.0.0.251"), False, True),
        ("multicast", REQUEST._replace(dst="239.255.255.255"), False, True),
        ("multicast", REQUEST._replace(dst="255.255.255.255"), False, True),
        ("multicast", REQUEST._replace(dst="10.244.2.255"), False, False),
        ("multicast", REQUEST_6._replace(dst="ff02::fb"), False, True),
        ("multicast", REQUEST_6, False, False),
        ("multicast", REQUEST._replace(src="224.0.0.1"), False, False),
    ],
)
def test_noise_that_a_line_tells(name: str, key: FlowKey, reset: bool, held: bool) -> None:
    assert filter_of_text(name).holds(Packets.of(key, reset=reset)) is held


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [("a", "a", True), ("a", "ab", False), ("a*", "a", True), ("a*c", "abc", True), ("a?c", "ac", False),
     ("*", "", True), ("a.c", "abc", False), ("[ab]", "a", False), ("***a", "bba", True), ("a*", "a\nb", True)],
)  # fmt: skip
def test_globs(glob: str, text: str, matches: bool) -> None:
    assert matches_glob(glob, text) is matches


def test_a_glob_of_stars_is_compared_in_no_time() -> None:
    assert not matches_glob("*a*a*a*", "b" * 100_000)
