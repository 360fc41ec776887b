"""Which address is looked up next, and when."""

from __future__ import annotations

import pytest

from kiptail.pods import lookup_queue
from kiptail.pods.lookup_queue import BURST, FORBIDDEN_RETRY, MAX_FAILURES, MAX_WAITING, LookupQueue
from tests.support.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(1000.0)
    monkeypatch.setattr(lookup_queue.time, "monotonic", clock)
    return clock


def test_each_is_asked_for_when_its_time_has_come_in_the_order_of_the_questions(clock: Clock) -> None:
    queue = LookupQueue()
    assert queue.next() == (None, None)
    queue.add("later", 1007.0)
    queue.add("a", 0.0)
    queue.add("b", 0.0)
    assert [queue.next()[0] for _ in range(2)] == ["a", "b"]
    assert queue.next() == (None, 7.0)
    assert len(queue) == 3
    assert ["later" in queue, "a" in queue, "c" in queue] == [True, True, False]
    queue.answered("a")
    queue.dropped("b")
    assert len(queue) == 1
    clock.now = 1007.0
    assert queue.next()[0] == "later"


def test_only_so_many_wait(clock: Clock) -> None:
    queue = LookupQueue()
    for n in range(MAX_WAITING):
        assert not queue.full()
        queue.add(str(n), 0.0)
    assert queue.full()
    queue.next()
    assert not queue.full()


def test_after_a_burst_they_go_out_evenly(clock: Clock) -> None:
    queue = LookupQueue()
    for n in range(2 * BURST):
        queue.add(str(n), 0.0)
    went = 0
    while queue.next()[0] is not None:
        went += 1
    assert BURST <= went < BURST + 5
    address, wait = queue.next()
    assert address is None
    assert wait is not None
    assert 0 < wait <= 0.2


def test_trouble_holds_all_of_them_and_ends_with_an_answer(clock: Clock) -> None:
    queue = LookupQueue()
    queue.add("a", 0.0)
    queue.add("b", 0.0)
    queue.next()
    assert queue.failed("a", transient=True, retry_after=7.0)
    assert queue.next() == (None, 7.0)
    clock.now += 7.0
    assert queue.next()[0] == "b", "the one that failed is behind those that were not tried yet"
    assert queue.next()[0] == "a"


def test_the_servers_wish_for_a_pause_has_its_bounds(clock: Clock) -> None:
    queue = LookupQueue()
    queue.add("a", 0.0)
    queue.next()
    queue.failed("a", transient=True, retry_after=1e9)
    assert queue.next() == (None, 60.0)


def test_a_look_up_that_fails_by_itself_is_given_up(clock: Clock) -> None:
    queue = LookupQueue()
    queue.add("a", 0.0)
    for n in range(MAX_FAILURES):
        clock.now += 60.0
        assert queue.next()[0] == "a"
        assert queue.failed("a", transient=False, retry_after=0.0) == (n < MAX_FAILURES - 1)
    assert len(queue) == 0


def test_without_the_right_nothing_waits(clock: Clock) -> None:
    queue = LookupQueue()
    queue.add("a", 0.0)
    queue.add("b", 0.0)
    queue.next()
    queue.refused("a")
    assert queue.forbidden()
    assert len(queue) == 0
    clock.now += FORBIDDEN_RETRY
    assert not queue.forbidden()
