"""What Events say of NetworkPolicies: the words, and which flows they are said of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.also import also_in, without_also
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import MESSAGE_LIMIT, EventRecord, EventStyle, message
from kiptail.events.why import can_be_explained, isolating, reason_in, reasons, reasons_of, same_ends
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef
from kiptail.policies.denial import Denial, PolicyName

STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
CLIENT, WEB = PodRef("team-a", "client", "uid-client"), PodRef("team-b", "web-0", "uid-web")
KEY = FlowKey("10.244.1.9", "10.244.1.3", "TCP", 8080, None, None, False, "calico-drop:", "drop")
FLOW = Flow(1, KEY, 0, 0, 0, 0, 1)
SRC, DST = Endpoint(Kind.POD, "10.244.1.9", (CLIENT,)), Endpoint(Kind.POD, "10.244.1.3", (WEB,))
ENDS = {"src": SRC, "dst": DST}


def names(*texts: str, namespace: str = "team-a") -> tuple[PolicyName, ...]:
    return tuple(PolicyName(namespace, text) for text in texts)


OWN, OTHERS = "no rule of", "isolated by"
WORDS = [
    (Denial(), None, None),
    (
        Denial(egress=names("no-egress")),
        "no rule of NetworkPolicy no-egress allows it",
        "isolated by NetworkPolicy team-a/no-egress",
    ),
    (
        Denial(ingress=names("default-deny", namespace="team-b")),
        "isolated by NetworkPolicy team-b/default-deny",
        "no rule of NetworkPolicy default-deny allows it",
    ),
    (
        Denial(names("a"), names("b", namespace="team-b")),
        "no rule of NetworkPolicy a allows it",
        "no rule of NetworkPolicy b allows it",
    ),
    (
        Denial(egress=names("a", "b")),
        "no rule of NetworkPolicies a and b allows it",
        "isolated by NetworkPolicies team-a/a and team-a/b",
    ),
    (
        Denial(egress=names("a", "b", "c")),
        "no rule of NetworkPolicies a, b and c allows it",
        "isolated by NetworkPolicies team-a/a, team-a/b and team-a/c",
    ),
    (
        Denial(egress=names("a", "b", "c", "d", "e")),
        "no rule of NetworkPolicies a, b, c and 2 more allows it",
        "isolated by NetworkPolicies team-a/a, team-a/b, team-a/c and 2 more",
    ),
]


@pytest.mark.parametrize(("denial", "source", "destination"), WORDS)
def test_the_words(denial: Denial, source: str | None, destination: str | None) -> None:
    said = {"src": source, "dst": destination}
    assert reasons(denial) == {end: f": {text}" for end, text in said.items() if text}


def test_an_event_ends_with_it() -> None:
    why = reasons(Denial(ingress=names("default-deny", namespace="team-b")))
    assert message(FLOW, "dst", SRC, STYLE, why=why["dst"]) == (
        "Packet dropped when receiving traffic from team-a/client (10.244.1.9) on port 8080/TCP: no rule of"
        " NetworkPolicy default-deny allows it"
    )
    ping = replace(FLOW, key=KEY._replace(protocol="ICMP", port=None, icmp_type=8, icmp_code=0))
    assert message(ping, "src", DST, STYLE, why=why["src"]) == (
        "Packet dropped when sending traffic to team-b/web-0 (10.244.1.3), ICMP echo-request: isolated by"
        " NetworkPolicy team-b/default-deny"
    )
    limited = replace(STYLE, limited=frozenset({"calico-drop:"}))
    assert message(FLOW, "dst", SRC, limited, why=why["dst"]).endswith(
        "on port 8080/TCP: no rule of NetworkPolicy default-deny allows it; the rule logs at a limited rate, so there"
        " may have been more packets"
    )
    assert "NetworkPolicy" not in message(FLOW, "dst", SRC, STYLE, why=why["dst"], withdrawn=True)


def key(**more: Any) -> Flow:
    return replace(FLOW, key=KEY._replace(**more))


NODE = Endpoint(Kind.NOBODY, "10.244.1.9", name="node/worker-3")
EXPLAINED = [
    ("two pods", FLOW, ENDS, True),
    ("rejected", key(verdict="reject"), ENDS, True),
    ("ping", key(protocol="ICMP", port=None, icmp_type=8, icmp_code=0), ENDS, True),
    ("ping over IPv6", key(protocol="ICMPv6", port=None, icmp_type=128, icmp_code=0), ENDS, True),
    ("its answer", key(protocol="ICMP", port=None, icmp_type=0, icmp_code=0), ENDS, False),
    ("an ICMP error", key(protocol="ICMPv6", port=None, icmp_type=1, icmp_code=4), ENDS, False),
    ("GRE", key(protocol="47", port=None), ENDS, True),
    ("a reply", key(reply=True), ENDS, False),
    ("the prefix names the policy", key(policy="team-b/x"), ENDS, False),
    ("folded", replace(FLOW, spread=Spread()), ENDS, False),
    ("one end is not decided", FLOW, {"src": SRC}, False),
    ("one end may be several pods", FLOW, {**ENDS, "src": SRC._replace(kind=Kind.AMBIGUOUS)}, False),
    ("an owner may turn out", FLOW, {**ENDS, "src": Endpoint(Kind.NOBODY, "10.0.0.1", open=True)}, False),
    ("from outside", FLOW, {**ENDS, "src": Endpoint(Kind.NOBODY, "192.0.2.7", name="db.example.com")}, True),
    ("from a node", FLOW, {**ENDS, "src": NODE}, True),
    ("to a Service", FLOW, {**ENDS, "dst": Endpoint(Kind.NOBODY, "10.96.0.1", name="service team-b/web")}, False),
    ("reported by another flow", replace(FLOW, ends=()), ENDS, False),
    ("reported at one end", replace(FLOW, ends=("dst",)), ENDS, True),
    ("the pod's end is another flow's", replace(FLOW, ends=("src",)), {**ENDS, "src": NODE}, False),
    ("no pods", FLOW, {"src": NODE, "dst": Endpoint(Kind.NOBODY, "192.0.2.7")}, False),
]


@pytest.mark.parametrize(("flow", "ends", "explained"), [row[1:] for row in EXPLAINED], ids=[r[0] for r in EXPLAINED])
def test_which_flows_can_be_explained(flow: Flow, ends: dict[str, Endpoint], explained: bool) -> None:
    assert can_be_explained(flow, ends) is explained


def test_other_names_are_no_other_ends() -> None:
    stranger = Endpoint(Kind.NOBODY, "192.0.2.7", unnamed=True)
    assert same_ends({"src": stranger}, {"src": stranger._replace(name="db.example.com", unnamed=False)})
    assert not same_ends({"src": stranger}, {"src": stranger._replace(open=True)})
    assert not same_ends({"src": stranger}, {"src": SRC})
    assert not same_ends({"src": SRC}, ENDS)


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True)
POLICIES = st.lists(st.builds(PolicyName, st.from_regex(r"[a-z]{1,63}", fullmatch=True), NAMES), max_size=6).map(tuple)


@pytest.mark.hypothesis
@given(POLICIES, POLICIES, st.booleans(), NAMES, st.sampled_from([0, 2, 5_000]))
def test_what_a_text_says_is_read_from_it_again(
    egress: tuple[PolicyName, ...], ingress: tuple[PolicyName, ...], limited: bool, pod: str, also: int
) -> None:
    """After a restart the stored text is all that tells; it is within its limit with any names."""
    style = replace(STYLE, limited=frozenset({"calico-drop:"} if limited else ()))
    why = reasons(Denial(egress, ingress))
    for end, other in (("src", DST), ("dst", SRC)):
        peer = other._replace(pods=(PodRef("n" * 63, pod, "u"),), address="fd00:1111:2222:3333:4444:5555:6666:7777")
        peer = peer._replace(port_name="a" * 15, probes=not limited)
        others = (also, f"{'k' * 63}/{pod}")
        text = message(FLOW, end, peer, style, why=why.get(end, ""), service=peer, also=others)
        assert "aaa)" in text
        assert also_in(text) in (also, 0)
        assert without_also(text) == message(FLOW, end, peer, style, why=why.get(end, ""), service=peer)
        assert len(text.encode()) <= MESSAGE_LIMIT
        assert reason_in(text) == why.get(end, "")


def record(end: str, text: str, *, sent: int = 1, withdrawn: bool = False) -> EventRecord:
    return EventRecord(1, end, CLIENT, f"e-{end}", text, sent_count=sent, withdrawn=withdrawn)


def test_what_stored_events_said_is_held_to() -> None:
    said = reasons(Denial(egress=names("a")))
    told = [record(end, message(FLOW, end, DST, STYLE, why=said[end])) for end in ("src", "dst")]
    assert reasons_of(told) == said
    assert reasons_of([record("src", "Packet dropped when sending traffic to 10.0.0.1")]) == {}
    assert reasons_of([record("src", "Packet dropped", sent=0)]) is None, "it may still be explained"
    assert reasons_of([replace(told[0], withdrawn=True)]) is None
    assert reasons_of([]) is None


@pytest.mark.parametrize(
    ("why", "named"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param(": no rule of NetworkPolicy default-deny allows it", ["team-a/default-deny"], id="own"),
        pytest.param(": no rule of NetworkPolicies a, b.c and and allows it", ["team-a/a", "team-a/b.c", "team-a/and"]),
        pytest.param(": no rule of NetworkPolicies a, b, c and 2 more allows it", ["team-a/a", "team-a/b", "team-a/c"]),
        pytest.param(": isolated by NetworkPolicy team-b/deny", ["team-b/deny"], id="the other's"),
        pytest.param(
            ": isolated by NetworkPolicies b/x, b/y and b/z", ["b/x", "b/y", "b/z"], id="several of the other's"
        ),
    ],
)
def test_the_policies_that_a_text_names(why: str, named: list[str]) -> None:
    pod = PodRef("team-a", "web", "uid")
    text = f"Packet dropped when sending traffic to team-b/web (10.0.0.2) on port 80/TCP{why}"
    assert isolating(EventRecord(1, "src", pod, "web.1", text)) == named
