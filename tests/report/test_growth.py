"""How a series of records grew: its last count, whatever came before, and each packet in one period."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kiptail.report.growth import Growth, Step
from kiptail.report.recorded import Record
from tests.report.records import record

Told = tuple[int, int]


def grown(told: list[Told], first_us: int = 100) -> list[Step]:
    """The steps of a series whose records counted so many packets, the last of them at that time."""
    records = [record(packets=count, first_us=first_us, last_us=at_us) for count, at_us in told]
    return steps_of(records)


def steps_of(records: list[Record]) -> list[Step]:
    growth = Growth(records[-1])
    for earlier in reversed(records[:-1]):
        growth.add(earlier)
    growth.end()
    return growth.steps[::-1]


def test_one_record_is_all_since_the_flow_began() -> None:
    assert grown([(3, 500)]) == [Step(100, 500, 3)]


def test_what_came_from_one_record_to_the_next() -> None:
    assert grown([(3, 500), (3, 500), (10, 900)]) == [Step(100, 500, 3), Step(500, 900, 7)]


def test_what_was_taken_out_later_never_came() -> None:
    """17 packets turned out to be another pod's: they had been counted too early."""
    assert grown([(10, 400), (25, 800), (8, 350), (9, 900)]) == [Step(100, 350, 8), Step(350, 900, 1)]


def test_what_was_withdrawn_never_came_but_what_was_given_back_did() -> None:
    assert grown([(10, 400), (0, 400)]) == []
    assert grown([(10, 400), (0, 400), (12, 600)]) == [Step(100, 600, 12)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(100, 1_000)), min_size=1))
def test_at_no_time_there_were_more_than_any_later_record_says(told: list[Told]) -> None:
    told = [(count, 100 + number) for number, (count, _) in enumerate(told)]
    steps = grown(told)
    for number in range(len(told)):
        by_then = sum(step.packets for step in steps if step.until_us <= 100 + number)
        assert by_then == min(count for count, _ in told[number:])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(100, 1_000)), min_size=1), st.integers(0, 1_100))
def test_periods_that_follow_each_other_have_the_last_count_between_them(told: list[Told], cut: int) -> None:
    steps = grown(told)
    assert sum(step.packets for step in steps) == told[-1][0]
    assert all(step.packets > 0 and step.since_us <= step.until_us for step in steps)
    assert [step.until_us for step in steps] == sorted(step.until_us for step in steps)
    before = sum(step.packets for step in steps if step.until_us < cut)
    after = sum(step.packets for step in steps if step.until_us >= cut)
    assert before + after == told[-1][0]
