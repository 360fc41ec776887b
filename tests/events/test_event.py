"""Wording and body of an Event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import (
    LIMITED,
    WITHDRAWN,
    EventRecord,
    EventStyle,
    event_body,
    event_name,
    message,
)
from kiptail.flows.flow import Distinct, Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef

STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
WEB = PodRef("team-a", "web-0", "uid-web", "shop")
CLIENT = PodRef("team-a", "client", "uid-client")


def key(
    protocol: str = "TCP",
    port: int | None = None,
    icmp: tuple[int, int] | None = None,
    *,
    reply: bool = False,
    verdict: str = "drop",
    policy: str = "",
) -> FlowKey:
    icmp_type, icmp_code = icmp or (None, None)
    return FlowKey(
        "10.244.1.9", "10.244.1.3", protocol, port, icmp_type, icmp_code, reply, "calico-drop:", verdict, policy=policy
    )


def text_of(key: FlowKey, end: str, peer: Endpoint, style: EventStyle = STYLE) -> str:
    return message(Flow(1, key, 0, 0, 0, 0, 1), end, peer, style)


def at(pod: PodRef, address: str) -> Endpoint:
    return Endpoint(Kind.POD, address, (pod,))


WEB_END = at(WEB, "10.244.1.3")
CLIENT_END = at(CLIENT, "10.244.1.9")


@pytest.mark.parametrize(
    ("flow", "end", "peer", "text"),
    [
        pytest.param(
            key(port=8080), "src", WEB_END,
            "Packet dropped when sending traffic to team-a/web-0 (10.244.1.3) on port 8080/TCP",
            id="the sender, peer a pod",
        ),
        pytest.param(
            key(port=5432), "dst", Endpoint(Kind.NOBODY, "192.0.2.7", name="db.example.com"),
            "Packet dropped when receiving traffic from db.example.com (192.0.2.7) on port 5432/TCP",
            id="the receiver, peer with a DNS name",
        ),
        pytest.param(
            key("ICMP", icmp=(8, 0)), "dst", WEB_END,
            "Packet dropped when receiving traffic from team-a/web-0 (10.244.1.3), ICMP echo-request",
            id="ICMP",
        ),
        pytest.param(
            key("47"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            "Packet dropped when sending traffic to 192.0.2.7, protocol GRE",
            id="no ports, bare address",
        ),
        pytest.param(
            key(port=8080, reply=True), "src", CLIENT_END,
            "Packet dropped when sending a reply to team-a/client (10.244.1.9) from port 8080/TCP",
            id="a reply, told to the service",
        ),
        pytest.param(
            key(port=8080, reply=True), "dst", WEB_END,
            "Packet dropped when receiving a reply from team-a/web-0 (10.244.1.3) from port 8080/TCP",
            id="a reply, told to the client",
        ),
        pytest.param(
            key(port=80, verdict="reject"), "src", WEB_END,
            "Packet rejected when sending traffic to team-a/web-0 (10.244.1.3) on port 80/TCP",
            id="rejected",
        ),
        pytest.param(
            key(port=80), "dst",
            Endpoint(Kind.AMBIGUOUS, "10.244.1.3", (PodRef("team-a", "old", "1"), PodRef("team-a", "new", "2"))),
            "Packet dropped when receiving traffic from team-a/old or team-a/new (10.244.1.3) on port 80/TCP",
            id="ambiguous",
        ),
        pytest.param(
            key(port=53, protocol="UDP"), "src", Endpoint(Kind.NOBODY, "192.0.2.1", name="node/worker-3"),
            "Packet dropped when sending traffic to node/worker-3 (192.0.2.1) on port 53/UDP",
            id="a node",
        ),
        pytest.param(
            key(""), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            "Packet dropped when sending traffic to 192.0.2.7",
            id="the line did not say which protocol",
        ),
        pytest.param(
            key(port=8080, policy="team-b/deny-egress"), "src", WEB_END,
            "Packet dropped when sending traffic to team-a/web-0 (10.244.1.3) on port 8080/TCP,"
            " by policy team-b/deny-egress",
            id="a policy",
        ),
        pytest.param(
            key(port=8080, policy="deny", verdict="reject"), "dst", CLIENT_END,
            "Packet rejected when receiving traffic from team-a/client (10.244.1.9) on port 8080/TCP, by policy deny",
            id="a policy that rejects, told to the receiver",
        ),
        pytest.param(
            key(port=8080, reply=True, policy="deny"), "src", CLIENT_END,
            "Packet dropped when sending a reply to team-a/client (10.244.1.9) from port 8080/TCP, by policy deny",
            id="a policy, a reply",
        ),
        pytest.param(
            key("ICMP", icmp=(8, 0), policy="deny"), "dst", CLIENT_END,
            "Packet dropped when receiving traffic from team-a/client (10.244.1.9), ICMP echo-request, by policy deny",
            id="a policy, ICMP",
        ),
        pytest.param(
            key("47", policy="deny"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            "Packet dropped when sending traffic to 192.0.2.7, protocol GRE, by policy deny",
            id="a policy, no ports",
        ),
        pytest.param(
            key("", policy="default/test-n…"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            "Packet dropped when sending traffic to 192.0.2.7, by policy default/test-n…",
            id="a policy whose name was cut",
        ),
        pytest.param(
            key(port=80, policy="team-a/a, team-a/b"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            "Packet dropped when sending traffic to 192.0.2.7 on port 80/TCP, by policies team-a/a, team-a/b",
            id="several policies",
        ),
        pytest.param(
            key(port=80, policy="a, , b c"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            'Packet dropped when sending traffic to 192.0.2.7 on port 80/TCP, by policy "a, , b c"',
            id="what only looks like several is quoted",
        ),
        pytest.param(
            key(port=80, policy="deny all\x1b[31m  of (it)"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            'Packet dropped when sending traffic to 192.0.2.7 on port 80/TCP, by policy "deny all [31m of (it)"',
            id="a policy with blanks and control characters is quoted",
        ),
        pytest.param(
            key(port=80, policy="\x07"), "src", Endpoint(Kind.NOBODY, "192.0.2.7"),
            'Packet dropped when sending traffic to 192.0.2.7 on port 80/TCP, by policy ""',
            id="a policy of control characters alone",
        ),
    ],
)  # fmt: skip
def test_wording(flow: FlowKey, end: str, peer: Endpoint, text: str) -> None:
    assert text_of(flow, end, peer) == text


@pytest.mark.parametrize(
    ("identifier", "called"),
    [("name_with_namespace", "team-a/web-0"), ("namespace", "team-a"), ("name", "web-0"), ("label", "shop")],
)
def test_a_pod_is_called_as_the_settings_say(identifier: str, called: str) -> None:
    style = EventStyle("PacketDrop", "kiptail", "worker-3", identifier)
    assert f"to {called} (10.244.1.3)" in text_of(key(port=80), "src", WEB_END, style)


def test_a_pod_without_the_label_is_called_by_its_name() -> None:
    style = EventStyle("PacketDrop", "kiptail", "worker-3", "label")
    assert "to team-a/client (" in text_of(key(port=80), "src", CLIENT_END, style)


@given(st.text(max_size=3000))
def test_no_name_makes_a_text_that_is_too_long_or_holds_control_characters(name: str) -> None:
    text = text_of(key(port=80), "src", Endpoint(Kind.NOBODY, "192.0.2.7", name=name))
    assert len(text.encode()) <= 1024
    assert text.isprintable()


@pytest.mark.parametrize(
    ("peers", "ports", "end", "text"),
    [
        (40, 1, "dst", "Packets dropped when receiving traffic from more than 20 addresses"),
        (101, 3, "dst", "Packets dropped when receiving traffic from more than 100 addresses"),
        (100, 3, "dst", "Packets dropped when receiving traffic from more than 50 addresses"),
        (1, 1980, "src", "Packets dropped when sending traffic on more than 1,000 ports"),
        (60, 60, "src", "Packets dropped when sending traffic to more than 50 addresses on more than 50 ports"),
        (3, 3, "dst", "Packets dropped when receiving traffic from several addresses or on several ports"),
        (8192, 0, "dst", "Packets dropped when receiving traffic from more than 5,000 addresses"),
    ],
)
def test_a_folded_flow_says_how_much_it_stands_for_in_coarse_steps(peers: int, ports: int, end: str, text: str) -> None:
    spread = Spread(Distinct(), Distinct())
    for n in range(peers):
        spread.peers.add(n)
    for n in range(ports):
        spread.ports.add(n)
    flow = Flow(1, key(), 0, 0, 0, 0, 1, ends=(end,), spread=spread)
    assert message(flow, end, Endpoint(Kind.NOBODY, ""), STYLE) == text


def test_an_event_whose_packets_were_another_pods_says_so_and_counts_none() -> None:
    flow = Flow(7, key(port=80), 0, 0, 0, 0, 37)
    text = message(flow, "src", WEB_END, STYLE, withdrawn=True)
    assert text == (
        "Packet dropped when sending traffic to team-a/web-0 (10.244.1.3) on port 80/TCP: counted for another pod since"
    )
    record = EventRecord(7, "src", CLIENT, "client.0123456789abcdef", text, withdrawn=True)
    assert event_body(record, flow, STYLE, WEB)["count"] == 0
    record.sent_count, record.sent_message = 37, "before"
    assert record.is_pending(37)
    record.sent_count, record.sent_message = 0, text
    assert not record.is_pending(38)


def test_what_an_event_ends_with_is_not_cut_off() -> None:
    peer = Endpoint(Kind.NOBODY, "192.0.2.7", name="ä" * 2000)
    text = message(Flow(1, key(port=80), 0, 0, 0, 0, 1), "src", peer, STYLE, withdrawn=True)
    assert text.endswith("…: counted for another pod since")
    assert len(text.encode()) <= 1024


def test_packets_on_a_port_that_the_kubelet_probes_are_told_as_such() -> None:
    node = Endpoint(Kind.NOBODY, "192.0.2.1", name="node/worker-3", probes=True)
    assert text_of(key(port=8080), "dst", node) == (
        "Packet dropped when receiving traffic from node/worker-3 (192.0.2.1) on port 8080/TCP"
        " (the kubelet's probes use this port)"
    )


LIMITED_STYLE = replace(STYLE, limited=frozenset({"calico-drop:", "other:"}))


@pytest.mark.parametrize(
    ("flow", "peer", "text"),
    [
        pytest.param(
            key(port=80), WEB_END,
            "Packet dropped when receiving traffic from team-a/web-0 (10.244.1.3) on port 80/TCP;"
            " the rule logs at a limited rate, so there may have been more packets",
            id="alone",
        ),
        pytest.param(
            key(port=80, policy="deny"), WEB_END,
            "Packet dropped when receiving traffic from team-a/web-0 (10.244.1.3) on port 80/TCP, by policy deny;"
            " the rule logs at a limited rate, so there may have been more packets",
            id="with a policy",
        ),
        pytest.param(
            key(port=80, policy="deny"), Endpoint(Kind.NOBODY, "192.0.2.1", name="node/worker-3", probes=True),
            "Packet dropped when receiving traffic from node/worker-3 (192.0.2.1) on port 80/TCP, by policy deny"
            " (the kubelet's probes use this port);"
            " the rule logs at a limited rate, so there may have been more packets",
            id="with all there is to say",
        ),
        pytest.param(
            key(port=80)._replace(prefix="calico"), WEB_END,
            "Packet dropped when receiving traffic from team-a/web-0 (10.244.1.3) on port 80/TCP",
            id="another prefix",
        ),
    ],
)  # fmt: skip
def test_that_a_rule_logs_at_a_limited_rate_is_said_once(flow: FlowKey, peer: Endpoint, text: str) -> None:
    assert text_of(flow, "dst", peer, LIMITED_STYLE) == text


def test_what_is_withdrawn_or_folded_says_nothing_of_a_limited_rate() -> None:
    flow = Flow(7, key(port=80, policy="deny"), 0, 0, 0, 0, 37)
    assert message(flow, "src", WEB_END, LIMITED_STYLE, withdrawn=True) == (
        "Packet dropped when sending traffic to team-a/web-0 (10.244.1.3) on port 80/TCP, by policy deny:"
        " counted for another pod since"
    )
    folded = replace(flow, spread=Spread(Distinct(), Distinct()))
    assert message(folded, "src", WEB_END, LIMITED_STYLE) == message(folded, "src", WEB_END, STYLE)


@given(st.text(max_size=600), st.sampled_from([STYLE, LIMITED_STYLE]), st.booleans())
def test_no_policy_hides_the_address_or_looks_like_our_own_words(policy: str, style: EventStyle, probes: bool) -> None:
    ours = Flow(1, key(port=80), 0, 0, 0, 0, 1)
    peer = Endpoint(Kind.NOBODY, "192.0.2.7", name="a" * 253, probes=probes)
    begin = message(ours, "src", peer._replace(probes=False), STYLE)
    text = message(replace(ours, key=key(port=80, policy=policy)), "src", peer, style)
    assert text.startswith(begin)
    assert text.isprintable()
    assert len(text.encode()) <= 1024
    assert text.endswith(LIMITED) is (style is LIMITED_STYLE)


@pytest.mark.parametrize("ending", [WITHDRAWN, LIMITED])
def test_a_policy_that_is_called_like_an_ending_is_none(ending: str) -> None:
    record = EventRecord(1, "src", CLIENT, "name", "")
    record.sent_message = text_of(key(port=80, policy=f"x{ending}"), "src", WEB_END)
    assert record.sent_message.endswith(f'"x{ending}"')
    assert not record.tells_of_another


def test_an_over_long_policy_is_cut() -> None:
    text = text_of(key(port=80, policy="p" * 300), "src", WEB_END)
    assert text.endswith(", by policy " + "p" * 252 + "…")


def test_the_body_is_what_kubectl_describe_needs() -> None:
    flow = Flow(7, key(port=80), 1_800_000_000_000_000, 1_799_999_999_900_000, 1_800_000_060_000_000, 0, 37)
    record = EventRecord(7, "src", CLIENT, "client.0123456789abcdef", "text")
    assert event_body(record, flow, STYLE, WEB) == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "client.0123456789abcdef", "namespace": "team-a"},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "client", "uid": "uid-client",
        },
        "related": {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web-0", "uid": "uid-web"},
        "reason": "PacketDrop",
        "message": "text",
        "type": "Warning",
        "action": "Drop",
        "source": {"component": "kiptail", "host": "worker-3"},
        "reportingComponent": "kiptail",
        "reportingInstance": "worker-3",
        "firstTimestamp": "2027-01-15T07:59:59Z",
        "lastTimestamp": "2027-01-15T08:01:00Z",
        "count": 37,
    }  # fmt: skip


def test_names_are_stable_distinct_and_short_enough() -> None:
    def name(**changes: Any) -> str:
        given: dict[str, Any] = {"stamp": 1, "end": "src", "pod": WEB, "node": "n"} | changes
        flow = Flow(7, key(port=80), 0, 0, 0, 0, 1, stamp=given["stamp"])
        return event_name(flow, given["end"], given["pod"], given["node"])

    assert name() == name()
    others = {name(stamp=2), name(end="dst"), name(pod=CLIENT), name(node="m"), name()}
    assert len(others) == 5
    assert name().startswith("web-0.")
    assert len(name(pod=PodRef("n", "p" * 253, "u"))) == 253
    assert ".." not in name(pod=PodRef("n", "p" * 235 + "." + "q" * 9, "u")), "a DNS subdomain"


DEPLOYED = PodRef("team-a", "web-5d4f8c7b9-x2x4z", "uid-web", workload="deploy/web")


@pytest.mark.parametrize(
    ("peer", "called"),
    [
        pytest.param(at(DEPLOYED, "10.244.1.3"), "team-a/deploy/web", id="a Deployment's"),
        pytest.param(at(WEB, "10.244.1.3"), "team-a/web-0", id="one that an earlier version stored"),
        pytest.param(
            Endpoint(Kind.AMBIGUOUS, "10.244.1.3", (DEPLOYED, DEPLOYED._replace(name="web-5d4f8c7b9-q8w7e", uid="2"))),
            "team-a/deploy/web",
            id="either of two of one workload",
        ),
        pytest.param(
            Endpoint(Kind.AMBIGUOUS, "10.244.1.3", (DEPLOYED, DEPLOYED._replace(namespace="team-b", uid="2"))),
            "team-a/deploy/web or team-b/deploy/web",
            id="either of two namespaces'",
        ),
    ],
)
def test_a_peer_can_be_called_by_its_workload(peer: Endpoint, called: str) -> None:
    text = text_of(key(port=8080), "src", peer, replace(STYLE, pod_identifier="workload"))
    assert text == f"Packet dropped when sending traffic to {called} (10.244.1.3) on port 8080/TCP"


@pytest.mark.parametrize("end", ["src", "dst"])
@pytest.mark.parametrize("reply", [False, True])
def test_a_port_is_named_at_both_ends_as_the_service_calls_it(end: str, reply: bool) -> None:
    """The port is the service's, who sends a reply from it; the other end's port of that number is another."""
    flow = Flow(1, key(port=8080, reply=reply), 0, 0, 0, 0, 1)
    service = WEB_END._replace(port_name="http")
    text = message(flow, end, WEB_END, STYLE, service=service, why=": no rule of NetworkPolicy deny allows it")
    where = "from" if reply else "on"
    assert text.endswith(f" {where} port 8080/TCP (http): no rule of NetworkPolicy deny allows it")
    assert message(flow, end, WEB_END, STYLE, service=service, withdrawn=True).endswith(
        "/TCP (http): counted for another pod since"
    )
    assert "(http)" not in message(flow, end, service, STYLE, service=WEB_END), "only what the service calls it"


def test_other_pods_are_told_of_behind_all_else_where_there_is_room() -> None:
    flow, others = Flow(1, key(port=8080), 0, 0, 0, 0, 1), (1_000, "deploy/client")
    plain = message(flow, "src", WEB_END, STYLE)
    assert message(flow, "src", WEB_END, STYLE, also=others) == (
        f"{plain} (also more than 1,000 other pods of deploy/client)"
    )
    assert message(flow, "src", WEB_END, STYLE, also=(0, "deploy/client")) == plain
    withdrawn = message(flow, "src", WEB_END, STYLE, withdrawn=True)
    assert message(flow, "src", WEB_END, STYLE, withdrawn=True, also=others) == withdrawn
    long = WEB_END._replace(kind=Kind.NOBODY, name="x" * 960, pods=())
    assert message(flow, "src", long, STYLE, also=others) == message(flow, "src", long, STYLE), "nothing is cut for it"


def test_a_nodes_port_is_said_to_be_a_pods_behind_its_number() -> None:
    flow = Flow(1, key(port=8080, policy="x"), 0, 0, 0, 0, 1)
    node = Endpoint(Kind.NOBODY, "192.0.2.3", name="node/worker-3", host_port_of="team-b/web-0")
    assert message(flow, "src", node, STYLE, service=node) == (
        "Packet dropped when sending traffic to node/worker-3 (192.0.2.3) on port 8080/TCP"
        " (a host port of team-b/web-0), by policy x"
    )
