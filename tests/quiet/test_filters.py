"""All filters together say what asking each of them would, and a thousand of them say it soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.config.ignore_tables import filter_of_text, filters_of
from kiptail.flows.flow import FlowKey
from kiptail.flows.left_out import LeftOut
from kiptail.quiet.filter import Packets, Party, Place, PodThere
from kiptail.quiet.filters import Filters
from tests.support.filters import Judge, Who, first_of

REQUEST = FlowKey("10.244.1.9", "10.244.2.3", "TCP", 8080, None, None, False, "calico-drop:", "drop")

V4 = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.7", "224.0.0.5", "255.255.255.255"])
V6 = st.sampled_from(["fd00::1", "fd00::2", "fd00:0:0:1::1", "2001:db8::7", "ff02::1"])
RANGES = st.sampled_from(
    ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "192.0.2.0/28", "fd00::/64", "fd00::1/128", "::/0"]
)
PLACES = st.sampled_from(["node", "service", "outside"])
WHERE = st.lists(RANGES | RANGES | PLACES, min_size=1, max_size=3)
NAMESPACES = ["team-a", "team-b", "default"]
PORTS = [22, 80, 443, 8080]
KINDS = [("TCP", True), ("UDP", True), ("ICMP", False), ("47", False)]


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


TABLES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "src": WHERE,
            "dst": WHERE,
            "peer": WHERE,
            "port": some([*PORTS, "1-100", "8000-9000", "0-65535"]),
            "protocol": some(["TCP", "UDP", "ICMP", "47"]),
            "icmp": some(["8", "3/1", "3"]),
            "prefix": some(["drop:", "other:"]),
            "policy": some(["team-a/x", "team-*", "*", "y"]),
            "verdict": some(["drop", "reject"]),
            "reply": st.booleans(),
            "namespace": some([*NAMESPACES, "team-*", "*"]),
            "pod": st.sampled_from(["app=web", "app=db"]),
            "direction": st.sampled_from(["sent", "received"]),
            "name": st.sampled_from(["replies", "multicast", "probes"]),
            "reason": st.sampled_from(["one", "two"]),
            "what": st.sampled_from(["all", "events"]),
        },
    ).filter(lambda table: table.keys() - {"reason", "what"}),
    max_size=12,
)
WHO: st.SearchStrategy[Who] = st.one_of(
    st.builds(
        lambda namespace, app: {"is": "pod", "namespace": namespace, "labels": {"app": app}},
        st.sampled_from(NAMESPACES),
        st.sampled_from(["web", "db", "x"]),
    ),
    st.builds(lambda place, probes: {"is": place, "probes": probes}, PLACES, st.booleans()),
)


@st.composite
def keys(draw: Callable[[Any], Any]) -> FlowKey:
    src, dst = draw(st.tuples(V4, V4) | st.tuples(V6, V6))
    folded = draw(st.sampled_from(["", "", "", "src", "dst"]))
    if folded:
        return FlowKey(*(("", dst) if folded == "src" else (src, "")), "", None, None, None, False, "", "drop")
    protocol, ports = draw(st.sampled_from(KINDS))
    return FlowKey(
        src,
        dst,
        protocol,
        draw(st.sampled_from(PORTS)) if ports else None,
        draw(st.sampled_from([3, 8])) if protocol == "ICMP" else None,
        draw(st.sampled_from([0, 1])) if protocol == "ICMP" else None,
        ports and draw(st.booleans()),
        draw(st.sampled_from(["drop:", "other:"])),
        draw(st.sampled_from(["drop", "reject"])),
        policy=draw(st.sampled_from(["", "team-a/x", "y"])),
    )


def party(who: Who) -> Party:
    if who["is"] == "pod":
        return Party(pods=(PodThere(who["namespace"], who["labels"]),))
    return Party(Place(who["is"]), probes=who["probes"])


def answer(left_out: LeftOut | None) -> tuple[str, bool] | None:
    return None if left_out is None else tuple(left_out)


def needs_ends(table: Judge) -> bool:
    words = [word for name in ("src", "dst", "peer") for word in table.get(name, ())]
    return bool(
        table.keys() & {"namespace", "pod", "direction"}
        or {"node", "service", "outside"} & set(words)
        or table.get("name") == "probes"
    )


@given(TABLES, st.lists(st.tuples(keys(), st.booleans(), WHO, WHO), min_size=1, max_size=8))
def test_they_say_what_a_judge_says_who_asks_each(
    tables: list[Judge], packets: list[tuple[FlowKey, bool, Who, Who]]
) -> None:
    filters = Filters(filters_of(tables, "test"))
    by_line = [table for table in tables if not needs_ends(table)]
    by_ends = [table for table in tables if needs_ends(table)]
    for key, reset, src, dst in packets:
        assert answer(filters.leave_out(key, reset)) == first_of(by_line, key, reset=reset)
        there = {end: each for end, each in (("src", src), ("dst", dst)) if key.address(end)}
        about = Packets.of(key, parties={end: party(each) for end, each in there.items()})
        for end in there:
            assert answer(filters.at_end(about, end)) == first_of(by_ends, key, who=there, end=end)


def test_one_that_keeps_nothing_counts_before_those_that_only_make_no_event() -> None:
    texts = ["port=8080 reason=one", "src=10.244.1.9 reason=two what=all", "port=8080 reason=three what=all"]
    assert Filters([*map(filter_of_text, texts)]).leave_out(REQUEST, False) == LeftOut("two", everything=True)
    assert Filters([*map(filter_of_text, texts[:1])]).leave_out(REQUEST, False) == LeftOut("one", everything=False)


def test_without_any_nothing_is_left_out() -> None:
    filters = Filters()
    assert filters.leave_out(REQUEST, False) is None
    assert filters.at_end(Packets.of(REQUEST), "src") is None
    assert (filters.need_ends, filters.need_labels) == (False, False)


@pytest.mark.parametrize(("text", "ends", "labels"), [("port=1", False, False), ("namespace=x", True, False),
                                                     ("pod=a", True, True)])  # fmt: skip
def test_what_they_need_to_know(text: str, ends: bool, labels: bool) -> None:
    filters = Filters([filter_of_text(text)])
    assert (filters.need_ends, filters.need_labels) == (ends, labels)


@pytest.mark.parametrize(
    "text",
    [
        "src=198.51.{high}.{low} port=22",
        "dst=10.{high}.{low}.0/24",
        "peer=10.{high}.{low}.0/24 protocol=udp",
        "port={number}",
        "port=9000-9999 src=10.0.0.0/8,fd00::/8 verdict=reject",
        "policy=team-{number}/deny",
        "policy=team-{number}/*",
        "prefix=drop-{number}:",
        "verdict=reject icmp=8",
        "namespace=team-{number}",
        "namespace=*-{number}",
        "pod=app=web-{number}",
        "src=node namespace=team-{number}",
    ],
)
def test_a_thousand_of_them_take_less_than_a_millisecond(text: str) -> None:
    filters = Filters(
        [filter_of_text(text.format(number=n + 10_000, high=n // 256, low=n % 256)) for n in range(1_000)]
    )
    there = {end: Party(pods=(PodThere("team-a", {"app": "web"}),)) for end in ("src", "dst")}
    filters.leave_out(REQUEST, False)
    spent = []
    for n in range(20):
        key = REQUEST._replace(port=8080 + n)
        begin = time.perf_counter()
        filters.leave_out(key, False)
        filters.at_end(Packets.of(key, parties=there), "src")
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.001
