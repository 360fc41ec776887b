"""Which Event is written next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.event import EventRecord
from kiptail.events.schedule import Agenda, Schedule
from kiptail.pods.ownership import PodRef

HOUR_US = 3_600_000_000
WALL_US = 1_800_000_000_000_000


def record(flow_id: int, *, writes: int = 0, sent_at_us: int = WALL_US, uid: str = "u") -> EventRecord:
    made = EventRecord(flow_id, "src", PodRef("n", "p", uid), f"p.{flow_id}", "text")
    made.writes, made.sent_at_us = writes, sent_at_us
    return made


def taken(agenda: Agenda, now: float) -> list[int]:
    """Everything that is due, in its order."""
    order = []
    while (entry := agenda.take(now)) is not None:
        order.append(entry[1][0])
    return order


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30))
def test_a_schedule_gives_each_key_once_by_its_time_and_then_by_its_turn(entries: list[tuple[int, int]]) -> None:
    schedule: Schedule[int] = Schedule()
    expected = []
    for key, due in entries:
        if key not in schedule:
            schedule.add(key, due)
            expected.append((due, len(expected), key))
    popped = [schedule.pop() for _ in range(len(schedule))]
    assert popped == [(due, key) for due, _, key in sorted(expected)]
    assert schedule.due is None


def test_first_tellings_are_due_at_once_and_each_once() -> None:
    agenda = Agenda(120.0)
    for _ in range(3):
        agenda.plan(record(1), now=10.0, now_us=WALL_US)
    assert agenda.untold == 1
    assert agenda.due == 10.0
    assert taken(agenda, 10.0) == [1]


def test_updates_follow_sooner_at_first_and_then_at_the_interval() -> None:
    dues = []
    for writes in range(1, 6):
        agenda = Agenda(120.0)
        agenda.plan(record(1, writes=writes), now=0.0, now_us=WALL_US)
        dues.append(agenda.due)
    assert dues == [2.0, 8.0, 32.0, 120.0, 120.0]


def test_a_short_interval_is_never_exceeded() -> None:
    agenda = Agenda(1.0)
    agenda.plan(record(1, writes=2), now=0.0, now_us=WALL_US)
    assert agenda.due == 1.0


def test_time_since_the_last_write_counts_also_across_a_restart() -> None:
    agenda = Agenda(120.0)
    agenda.plan(record(1, writes=9, sent_at_us=WALL_US - 100_000_000), now=0.0, now_us=WALL_US)
    assert agenda.due == 20.0


def test_a_clock_that_is_set_back_silences_no_event() -> None:
    agenda = Agenda(120.0)
    agenda.plan(record(1, writes=9, sent_at_us=WALL_US + HOUR_US), now=0.0, now_us=WALL_US)
    assert agenda.due == 120.0


def test_first_tellings_go_before_overdue_updates_but_do_not_starve_them() -> None:
    agenda = Agenda(1.0)
    for flow_id in range(100, 110):
        agenda.plan(record(flow_id, writes=9, sent_at_us=0), now=0.0, now_us=WALL_US)
    for flow_id in range(40):
        agenda.plan(record(flow_id), now=5.0, now_us=WALL_US)
    order = taken(agenda, 5.0)
    assert order[:4] == [0, 1, 2, 3]
    assert [flow_id for flow_id in order[:50] if flow_id >= 100] == list(range(100, 110))


def test_what_failed_keeps_its_place_or_waits_as_it_is_told() -> None:
    agenda = Agenda(1.0)
    for flow_id in (1, 2):
        agenda.plan(record(flow_id), now=float(flow_id), now_us=WALL_US)
    due, key = agenda.take(5.0) or (0.0, (0, "", ""))
    agenda.again(key, due, told=False, behind=False)
    assert taken(agenda, 5.0) == [1, 2]


def test_what_failed_by_itself_goes_behind_what_has_not_but_gets_its_turn() -> None:
    agenda = Agenda(1.0)
    for flow_id in range(100, 160):
        agenda.again((flow_id, "src", "u"), 0.0, told=False, behind=True)
    for flow_id in range(60):
        agenda.plan(record(flow_id), now=5.0, now_us=WALL_US)
    order = taken(agenda, 5.0)
    assert order[:4] == [0, 1, 2, 3]
    assert 0 < sum(flow_id >= 100 for flow_id in order[:60]) <= 12
    assert sorted(order) == [*range(60), *range(100, 160)]


def test_what_is_scheduled_again_counts_once_and_at_its_new_time() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 5.0)
    schedule.add("b", 3.0)
    schedule.add("a", 1.0)
    assert len(schedule) == 2
    assert [schedule.pop(), schedule.pop()] == [(1.0, "a"), (3.0, "b")]
    assert schedule.due is None
    assert "a" not in schedule


def test_a_last_update_does_not_wait_for_the_interval_and_is_not_put_off() -> None:
    agenda = Agenda(120.0)
    told = record(1, writes=9)
    agenda.plan(told, now=10.0, now_us=WALL_US)
    for now in (11.0, 12.0):
        agenda.plan(told, now=now, now_us=WALL_US, last=True)
    assert agenda.due == 11.0
    assert taken(agenda, 11.0) == [1]
    assert agenda.due is None


def test_a_last_update_that_failed_waits_for_its_next_try() -> None:
    agenda = Agenda(120.0)
    agenda.again((1, "src", "u"), 50.0, told=True, behind=True)
    agenda.plan(record(1, writes=9), now=10.0, now_us=WALL_US, last=True)
    assert agenda.due == 50.0


def test_the_events_of_two_pods_at_one_end_are_two() -> None:
    """One is withdrawn while the other is told for the first time."""
    agenda = Agenda(120.0)
    agenda.plan(record(1, uid="old", writes=2), now=10.0, now_us=WALL_US, last=True)
    agenda.plan(record(1, uid="new"), now=10.0, now_us=WALL_US)
    assert agenda.take(10.0) == (10.0, (1, "src", "new"))
    assert agenda.take(10.0) == (10.0, (1, "src", "old"))
    assert agenda.take(10.0) is None


def test_an_event_that_is_withdrawn_before_it_was_written_is_due_once() -> None:
    agenda = Agenda(120.0)
    for last in (False, True):
        agenda.plan(record(1), now=10.0, now_us=WALL_US, last=last)
    assert taken(agenda, 10.0) == [1]
