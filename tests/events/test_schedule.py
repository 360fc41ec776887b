"""Which Event is written next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.event import EventRecord
from kiptail.events.schedule import DueQueue, Schedule
from kiptail.pods.ownership import PodRef

HOUR_US = 3_600_000_000
WALL_US = 1_800_000_000_000_000


def record(flow_id: int, *, writes: int = 0, sent_at_us: int = WALL_US, uid: str = "u") -> EventRecord:
    made = EventRecord(flow_id, "src", PodRef("n", "p", uid), f"p.{flow_id}", "text")
    made.writes, made.sent_at_us = writes, sent_at_us
    return made


def taken(schedule: Schedule, now: float) -> list[int]:
    """Everything that is due, in its order."""
    order = []
    while (entry := schedule.take(now)) is not None:
        order.append(entry[1][0])
    return order


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30))
def test_a_queue_gives_each_key_once_by_its_time_and_then_by_its_turn(entries: list[tuple[int, int]]) -> None:
    queue: DueQueue[int] = DueQueue()
    expected = []
    for key, due in entries:
        if key not in queue:
            queue.add(key, due)
            expected.append((due, len(expected), key))
    popped = [queue.pop() for _ in range(len(queue))]
    assert popped == [(due, key) for due, _, key in sorted(expected)]
    assert queue.due is None


def test_first_tellings_are_due_at_once_and_each_once() -> None:
    schedule = Schedule(120.0)
    for _ in range(3):
        schedule.plan(record(1), now=10.0, now_us=WALL_US)
    assert schedule.unposted == 1
    assert schedule.due == 10.0
    assert taken(schedule, 10.0) == [1]


def test_updates_follow_sooner_at_first_and_then_at_the_interval() -> None:
    dues = []
    for writes in range(1, 6):
        schedule = Schedule(120.0)
        schedule.plan(record(1, writes=writes), now=0.0, now_us=WALL_US)
        dues.append(schedule.due)
    assert dues == [2.0, 8.0, 32.0, 120.0, 120.0]


def test_a_short_interval_is_never_exceeded() -> None:
    schedule = Schedule(1.0)
    schedule.plan(record(1, writes=2), now=0.0, now_us=WALL_US)
    assert schedule.due == 1.0


def test_time_since_the_last_write_counts_also_across_a_restart() -> None:
    schedule = Schedule(120.0)
    schedule.plan(record(1, writes=9, sent_at_us=WALL_US - 100_000_000), now=0.0, now_us=WALL_US)
    assert schedule.due == 20.0


def test_a_clock_that_is_set_back_silences_no_event() -> None:
    schedule = Schedule(120.0)
    schedule.plan(record(1, writes=9, sent_at_us=WALL_US + HOUR_US), now=0.0, now_us=WALL_US)
    assert schedule.due == 120.0


def test_first_tellings_go_before_overdue_updates_but_do_not_starve_them() -> None:
    schedule = Schedule(1.0)
    for flow_id in range(100, 110):
        schedule.plan(record(flow_id, writes=9, sent_at_us=0), now=0.0, now_us=WALL_US)
    for flow_id in range(40):
        schedule.plan(record(flow_id), now=5.0, now_us=WALL_US)
    order = taken(schedule, 5.0)
    assert order[:4] == [0, 1, 2, 3]
    assert [flow_id for flow_id in order[:50] if flow_id >= 100] == list(range(100, 110))


def test_what_failed_keeps_its_place_or_waits_as_it_is_told() -> None:
    schedule = Schedule(1.0)
    for flow_id in (1, 2):
        schedule.plan(record(flow_id), now=float(flow_id), now_us=WALL_US)
    due, key = schedule.take(5.0) or (0.0, (0, "", ""))
    schedule.again(key, due, posted=False, behind=False)
    assert taken(schedule, 5.0) == [1, 2]


def test_what_failed_by_itself_goes_behind_what_has_not_but_gets_its_turn() -> None:
    schedule = Schedule(1.0)
    for flow_id in range(100, 160):
        schedule.again((flow_id, "src", "u"), 0.0, posted=False, behind=True)
    for flow_id in range(60):
        schedule.plan(record(flow_id), now=5.0, now_us=WALL_US)
    order = taken(schedule, 5.0)
    assert order[:4] == [0, 1, 2, 3]
    assert 0 < sum(flow_id >= 100 for flow_id in order[:60]) <= 12
    assert sorted(order) == [*range(60), *range(100, 160)]


def test_what_is_scheduled_again_counts_once_and_at_its_new_time() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.add("a", 5.0)
    queue.add("b", 3.0)
    queue.add("a", 1.0)
    assert len(queue) == 2
    assert [queue.pop(), queue.pop()] == [(1.0, "a"), (3.0, "b")]
    assert queue.due is None
    assert "a" not in queue


def test_a_last_update_does_not_wait_for_the_interval_and_is_not_put_off() -> None:
    schedule = Schedule(120.0)
    told = record(1, writes=9)
    schedule.plan(told, now=10.0, now_us=WALL_US)
    for now in (11.0, 12.0):
        schedule.plan(told, now=now, now_us=WALL_US, last=True)
    assert schedule.due == 11.0
    assert taken(schedule, 11.0) == [1]
    assert schedule.due is None


def test_a_last_update_that_failed_waits_for_its_next_try() -> None:
    schedule = Schedule(120.0)
    schedule.again((1, "src", "u"), 50.0, posted=True, behind=True)
    schedule.plan(record(1, writes=9), now=10.0, now_us=WALL_US, last=True)
    assert schedule.due == 50.0


def test_the_events_of_two_pods_at_one_end_are_two() -> None:
    """One is withdrawn while the other is told for the first time."""
    schedule = Schedule(120.0)
    schedule.plan(record(1, uid="old", writes=2), now=10.0, now_us=WALL_US, last=True)
    schedule.plan(record(1, uid="new"), now=10.0, now_us=WALL_US)
    assert schedule.take(10.0) == (10.0, (1, "src", "new"))
    assert schedule.take(10.0) == (10.0, (1, "src", "old"))
    assert schedule.take(10.0) is None


def test_an_event_that_is_withdrawn_before_it_was_written_is_due_once() -> None:
    schedule = Schedule(120.0)
    for last in (False, True):
        schedule.plan(record(1), now=10.0, now_us=WALL_US, last=last)
    assert taken(schedule, 10.0) == [1]


def test_a_key_is_hastened_but_never_put_off_and_may_go() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.hasten("a", 5.0)
    queue.hasten("b", 6.0)
    queue.hasten("a", 7.0)
    assert (queue.due, queue.next(4.9), queue.next(5.0)) == (5.0, None, "a")
    queue.hasten("b", 1.0)
    queue.hasten("c", 1.0)
    assert (queue.next(1.0), len(queue)) == ("b", 3)
    assert [queue.discard("b"), queue.discard("b"), "b" in queue] == [True, False, False]
    assert [queue.pop() for _ in range(2)] == [(1.0, "c"), (5.0, "a")]
    assert (queue.due, queue.next(9.0), len(queue)) == (None, None, 0)
