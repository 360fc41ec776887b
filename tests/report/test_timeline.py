"""The bars of the page, and what each number has in each of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.flow import FlowKey
from kiptail.report import moments
from kiptail.report.ends import Ends
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from kiptail.report.timeline import chart_of, packed, timeline_of
from tests.report.pages import unpacked

SECOND = 1_000_000
#: A midnight.
START = 1_767_225_600 * SECOND


def report(times: dict[int, list[int]], period: Period | None = None) -> Report:
    """Packets by port, at these times, in µs."""
    tally = Tally(Ends(None, {}), period or Period())
    for port, times_us in times.items():
        key = FlowKey("10.0.0.1", "10.0.0.2", "TCP", port, None, None, reply=False, prefix="p:", verdict="drop")
        tally.add(key, times_us)
    return report_of(tally, ())


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, ""),
        ({0: 1}, "1"),
        ({0: 1, 1: 35, 2: 36}, "1 z 10"),
        ({3: 7}, "-3 7"),
        ({1: 1_000_000, 95: 2}, "-1 lfls -2l 2"),
    ],
)
def test_numbers_by_bar_as_text(counts: dict[int, int], text: str) -> None:
    assert packed(counts) == text
    assert unpacked(text) == counts


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 10**12)))
def test_any_numbers_can_be_read_again(counts: dict[int, int]) -> None:
    assert unpacked(packed(counts)) == counts


@given(
    st.dictionaries(
        st.integers(1, 5), st.lists(st.integers(START, START + 10**13), min_size=1, max_size=30), min_size=1
    )
)
def test_bars_have_the_packets_of_their_time_by_flow(times: dict[int, list[int]]) -> None:
    shown = report(times)
    timeline = timeline_of(shown)
    every = [time_us for some in times.values() for time_us in some]
    if timeline is None:
        assert max(every) // SECOND == min(every) // SECOND
        return
    assert timeline.number <= 100
    assert timeline.start_us % timeline.step_us == 0
    for flow in shown.flows:
        naive = Counter((time_us - timeline.start_us) // timeline.step_us for time_us in times[flow.id.port or 0])
        assert timeline.counts([flow]) == naive
    chart = chart_of(shown, timeline)
    assert chart is not None
    assert (chart.start_s * SECOND, chart.step_s * SECOND) == (timeline.start_us, timeline.step_us)
    naive = Counter((time_us - timeline.start_us) // timeline.step_us for time_us in every)
    assert {bar.at: bar.packets.count for bar in chart.bars if bar.packets.count} == naive
    assert {at: n for bar in chart.bars for at, n in unpacked(bar.packets.when).items()} == naive


def test_bars_are_of_the_whole_period_that_was_asked_for() -> None:
    shown = report({80: [START + 3_600 * SECOND]}, Period(START, START + 86_400 * SECOND))
    timeline = timeline_of(shown)
    chart = chart_of(shown, timeline)
    assert timeline is not None
    assert chart is not None
    assert (timeline.number, timeline.step_us, chart.step) == (96, 900 * SECOND, "15 minutes")
    assert [tick.text for tick in chart.ticks] == ["06:00", "12:00", "18:00"]
    assert [tick.at for tick in chart.ticks] == [25.0, 50.0, 75.0]


def test_a_midnight_is_a_date_and_seconds_are_shown_where_they_count() -> None:
    days = chart_of(shown := report({80: [START, START + 3 * 86_400 * SECOND]}), timeline_of(shown))
    assert days is not None
    assert [tick.text for tick in days.ticks] == ["12:00", "01-02", "12:00", "01-03", "12:00"]
    seconds = chart_of(shown := report({80: [START + 5 * SECOND, START + 35 * SECOND]}), timeline_of(shown))
    assert seconds is not None
    assert [tick.text for tick in seconds.ticks] == [f"00:00:{second}" for second in range(10, 35, 5)]


def test_what_cannot_be_told_by_flow_is_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MOST_CELLS", 20)
    shown = report({port: [START, START + 3_000 * SECOND] for port in range(20)})
    timeline = timeline_of(shown)
    assert timeline is None
    chart = chart_of(shown, timeline)
    assert chart is not None
    assert len(chart.bars) == 100
    assert (chart.start_s, chart.step_s) == (0, 0)
    assert [bar.packets.count for bar in chart.bars if bar.packets.count] == [20, 20]
    assert {bar.packets.when for bar in chart.bars} == {""}


def test_many_packets_have_half_as_many_bars() -> None:
    few = timeline_of(report({80: [START, START + 95 * SECOND]}))
    many = timeline_of(report({80: [START, START + 95 * SECOND] * 1_000_001}))
    assert few is not None
    assert many is not None
    assert (few.number, many.number) == (96, 48)


def test_one_moment_is_no_timeline() -> None:
    shown = report({80: [START, START + 1]})
    assert timeline_of(shown) is None
    assert chart_of(shown, None) is None
