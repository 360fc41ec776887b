"""Packets added up by flow and by time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.flow import FlowKey
from kiptail.pods.snapshot import Collector, SnapshotIndex
from kiptail.report import tally as module
from kiptail.report.ends import Ends
from kiptail.report.tally import Bars, Period, Tally
from tests.support.pods import pod

SECOND = 1_000_000
START = 1_767_225_600 * SECOND


def key(src: str = "10.0.0.1", dst: str = "10.0.0.2", *, port: int | None = 80, here: str = "") -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, reply=False, prefix="drop:", verdict="drop", here=here)


def tally(period: Period | None = None) -> Tally:
    return Tally(Ends(None, {}), period or Period())


def test_packets_of_a_flow_are_one_row() -> None:
    counted = tally()
    counted.add(key(), [5 * SECOND, 3 * SECOND])
    counted.add(key(here="dst"), [9 * SECOND])
    counted.add(key(port=81), [4 * SECOND])
    assert counted.packets == 4
    assert [(flow.id.port, flow.count, flow.first_us, flow.last_us) for flow in counted.flows.values()] == [
        (80, 3, 3 * SECOND, 9 * SECOND),
        (81, 1, 4 * SECOND, 4 * SECOND),
    ]


def test_a_period_has_its_first_moment_and_not_its_end() -> None:
    counted = tally(Period(10, 20))
    counted.add(key(), [9, 10, 19, 20])
    counted.add(key(port=81), [5, 25])
    assert counted.packets == 2
    assert [(flow.count, flow.first_us, flow.last_us) for flow in counted.flows.values()] == [(2, 10, 19)]


def test_a_flow_is_cut_where_its_address_gets_an_owner() -> None:
    collector = Collector()
    collector.add(pod("web-0", "10.0.0.2", uid="u"), "Pod")
    owners = SnapshotIndex(collector.snapshot(), now_us=START).owners
    counted = Tally(Ends(owners, {}), Period())
    counted.add(key(), [START - 100 * SECOND, START - 50 * SECOND, START + 100 * SECOND])
    assert [(flow.id.dst.pod, flow.count) for flow in counted.flows.values()] == [("", 2), ("web-0", 1)]


def test_flows_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FLOWS", 2)
    counted = tally()
    for port in (1, 2, 3, 4, 1):
        counted.add(key(port=port), [SECOND])
    rows = [(flow.id.src.address, flow.id.port, flow.count) for flow in counted.flows.values()]
    assert rows == [("10.0.0.1", 1, 2), ("10.0.0.1", 2, 1), ("", None, 2)]
    assert counted.packets == 5


TIMES = st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=60)


@given(TIMES, st.integers(min_value=1, max_value=200))
def test_every_packet_is_in_one_column(times: list[int], number: int) -> None:
    bars = Bars()
    for time_us in times:
        bars.add([time_us])
    columns = bars.columns(min(times), max(times), number)
    assert len(columns) == number
    assert sum(columns) == len(times)


def test_a_long_time_has_wider_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STRETCHES", 8)
    bars = Bars()
    bars.add([second * SECOND for second in range(100)])
    assert bars.width_us == 16 * SECOND
    assert bars.columns(0, 112 * SECOND, 7) == [16, 16, 16, 16, 16, 16, 4]


@given(TIMES, st.integers(min_value=0, max_value=10**15), st.integers(min_value=0, max_value=10**15))
def test_the_flows_have_all_packets_of_the_period(times: list[int], since: int, until: int) -> None:
    counted = tally(Period(since, until))
    for n, time_us in enumerate(times):
        counted.add(key(port=n % 3), [time_us])
    inside = sum(since <= time_us < until for time_us in times)
    assert counted.packets == inside == sum(flow.count for flow in counted.flows.values())
