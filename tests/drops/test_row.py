"""One Event object → one row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.drops.row import Row, key_of, row_of
from kiptail.events.annotation import ANNOTATION
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.pods.ownership import PodRef
from tests.support.answers import ODD
from tests.support.drops import SERVER, drop_event, flow_of, other_event


def row(event: dict[str, Any]) -> Row:
    made = row_of(event)
    assert made is not None
    return made


def with_note(event: dict[str, Any], text: object) -> dict[str, Any]:
    return event | {"metadata": event["metadata"] | {"annotations": {ANNOTATION: text}}}


def test_a_row_has_what_the_annotation_says() -> None:
    event = drop_event("web-0", flow=flow_of(7, last=1.8e9, policy="team-b/deny"), isolated_by=["team-b/deny"])
    made = row(event)
    assert made.key == key_of(event) == ("team-a", event["metadata"]["name"])
    assert (made.namespace, made.pod, made.direction, made.reply) == ("team-a", "web-0", "sent", False)
    assert (made.peer, made.address, made.peer_is_pod) == ("team-b/server", "10.0.0.2", True)
    assert (made.port, made.protocol, made.icmp) == (8080, "TCP", "")
    assert (made.count, made.first, made.last) == (7, 1.8e9 - 60, 1.8e9)
    assert (made.policy, made.why) == ("team-b/deny", "no rule of NetworkPolicy team-b/deny allows it")
    assert (made.node, made.verdict, made.message) == ("worker-3", "drop", event["message"])


def test_without_the_annotation_the_text_is_read() -> None:
    for peer in (SERVER, Endpoint(Kind.NOBODY, "10.0.0.2")):
        for end in ("src", "dst"):
            with_it = row(drop_event("web-0", peer, flow_of(last=1.8e9), end=end))
            without = row(drop_event("web-0", peer, flow_of(last=1.8e9), end=end, annotated=False))
            for field in ("direction", "port", "protocol", "count", "first", "last", "verdict", "node", "message"):
                assert getattr(with_it, field) == getattr(without, field), field
            assert with_it.peer in (without.peer, "10.0.0.1")  # in the text the peer's address is that of the endpoint


def test_a_text_can_hide_the_name_that_the_annotation_has() -> None:
    event = drop_event("web-0") | {"message": "Packet dropped when sending traffic to web (10.0.0.2)"}
    assert row(event).peer == "team-b/server"


def test_names_of_all_kinds() -> None:
    pods = (PodRef("team-b", "old", "1"), PodRef("team-b", "new", "2"))
    for peer, name in (
        (Endpoint(Kind.NOBODY, "10.0.0.2", name="node/n1"), "node/n1"),
        (Endpoint(Kind.NOBODY, "10.0.0.2", name="service default/dns"), "service default/dns"),
        (Endpoint(Kind.NOBODY, "10.0.0.2", name="db.example.com"), "db.example.com"),
        (Endpoint(Kind.NOBODY, "10.0.0.2"), "10.0.0.2"),
        (Endpoint(Kind.AMBIGUOUS, "10.0.0.2", pods), "team-b/old or team-b/new"),
    ):
        made = row(drop_event("web-0", peer))
        assert (made.peer, made.address, made.peer_is_pod) == (name, "10.0.0.2", False)


def test_icmp_and_other_protocols() -> None:
    ping = row(drop_event("web-0", flow=flow_of(protocol="ICMP", port=None, icmp_type=8, icmp_code=0)))
    assert (ping.protocol, ping.icmp, ping.port) == ("ICMP", "echo-request", None)
    assert row(drop_event("web-0", flow=flow_of(protocol="47", port=None))).protocol == "GRE"


def test_what_counts_for_another_pod_is_no_row() -> None:
    assert row_of(drop_event("web-0", withdrawn=True)) is None


@pytest.mark.parametrize(
    "involved",
    [
        {"kind": "Node", "name": "n1"},
        {"kind": "Pod", "namespace": "team-a", "name": "\x1b[31m"},
        {"kind": "Pod", "namespace": "team-a"},
        {"kind": "Pod", "namespace": "../x", "name": "web-0"},
        None,
        "Pod",
    ],
)
def test_what_is_about_no_pod_is_no_row(involved: object) -> None:
    assert row_of(other_event("text", involvedObject=involved)) is None


def test_events_of_others_are_read_as_far_as_they_can_be() -> None:
    made = row(other_event("Packet dropped when receiving traffic from db.example.com (10.1.1.1)"))
    assert (made.direction, made.peer, made.address, made.port) == ("received", "db.example.com", "10.1.1.1", None)
    assert (made.count, made.node) == (2, "worker-4")
    made = row(other_event("something else"))
    assert (made.direction, made.peer, made.message) == ("", "", "something else")


def test_an_event_of_the_newer_api_counts_by_its_series() -> None:
    made = row(
        other_event(
            "x",
            firstTimestamp=None,
            lastTimestamp=None,
            count=None,
            eventTime="2026-11-26T04:00:00.500000Z",
            series={"count": 9, "lastObservedTime": "2026-11-26T04:10:00.000000Z"},
        )
    )
    assert made.count == 9
    assert made.first is not None
    assert made.last is not None
    assert made.last - made.first == 599.5
    once = row(other_event("x", firstTimestamp=None, lastTimestamp=None, count=None, eventTime=None))
    assert (once.count, once.first, once.last) == (1, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "{}", "null", '{"direction":"up"}', '{"direction":["sent"]}', "[" * 1_900, '{"a":"\\ud800"}',
        "{" * 5_000, '{"direction":"sent","src":"' + "x" * 3_000 + '"}', 7, None, {"direction": "sent"}, "\ud800",
    ],
)  # fmt: skip
def test_an_annotation_that_is_none_leaves_the_text(text: object) -> None:
    made = row(with_note(drop_event("web-0"), text))
    assert (made.direction, made.peer, made.port) == ("sent", "team-b/server", 8080)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize(
    "key",
    [
        "src",
        "dst",
        "protocol",
        "port",
        "reply",
        "icmp",
        "direction",
        "verdict",
        "policy",
        "isolated_by",
        "peer",
        "node",
    ],
)
def test_an_odd_value_in_the_annotation_is_passed_over(key: str, odd: object) -> None:
    said = {"direction": "sent", "dst": "10.0.0.2", "peer": {"kind": "pod", "namespace": "a", "name": "b"}} | {key: odd}
    made = row(with_note(drop_event("web-0"), json.dumps(said)))
    assert_typed(made)


KEYS = st.sampled_from(
    ["metadata", "involvedObject", "kind", "name", "namespace", "message", "count", "series", "annotations", ANNOTATION]
)
OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["Pod", "team-a", "web-0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(OBJECTS)
def test_whatever_an_object_holds_it_is_a_row_or_none(value: object) -> None:
    event = value if isinstance(value, dict) else {}
    for each in (event, other_event("x") | event):
        made = row_of(each)
        if made is not None:
            assert_typed(made)


def assert_typed(made: Row) -> None:
    for field in (
        "namespace",
        "pod",
        "direction",
        "peer",
        "address",
        "protocol",
        "icmp",
        "verdict",
        "policy",
        "why",
        "node",
    ):
        value = getattr(made, field)
        assert isinstance(value, str), field
        assert len(value) <= 6_000, field
    assert made.direction in ("", "sent", "received")
    assert made.port is None or 0 <= made.port < 65_536
    assert made.count > 0
    assert isinstance(made.reply, bool)
