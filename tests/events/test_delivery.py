"""What is planned, written, noted and given up, and the last round before the end."""

from __future__ import annotations

import time
from collections import Counter
from copy import copy
from typing import Any

import pytest

from kiptail.errors import ApiError, StateError
from kiptail.events.delivery import Delivery, Notes
from kiptail.events.event import EventRecord
from kiptail.events.schedule import Schedule
from kiptail.events.stages import Stages, Tracked
from kiptail.events.turns import Turns
from kiptail.events.wording import Wording
from kiptail.events.writer import Sender
from tests.events.test_poster import CLIENT, STYLE, WEB, EventServer, Notebook, flow
from tests.support.clock import Clock, own_clock


class Desk:
    """Delivery and all around it, moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.server, self.notebook, self.stages = Clock(), EventServer(), Notebook(), Stages()
        self.writes: Counter[str] = Counter()
        sender = Sender(self.server, paced=False, observe=self._observe, clock=self.clock)
        hold = options.pop("hold", False)
        self.delivery = Delivery(
            self.stages,
            sender,
            Turns(Schedule(60.0, ()), sender, hold=hold, clock=self.clock),
            Notes(self.notebook, self.clock),
            wording=Wording(STYLE, self.stages, repeat_interval=60.0),
            **{"give_up_after": 3600.0, "observe": self._observe} | options,
            clock=self.clock,
            own_clock=own_clock(lambda: time.time() + self.clock.now, lambda: 1e9 + self.clock.now),
        )

    def _observe(self, operation: str, result: str) -> None:
        self.writes[result] += 1

    def add(self, number: int = 1, **options: Any) -> Tracked:
        """A flow with an Event at each end."""
        made = flow(number, age=-self.clock.now, **options)
        records = {
            (end, pod.uid): EventRecord(number, end, pod, f"{pod.name}.{number}", f"{end} {number}")
            for end, pod in (("src", CLIENT), ("dst", WEB))
        }
        tracked = Tracked(made, self.clock(), {}, records)
        self.stages.track(tracked)
        self.delivery.plan(tracked)
        return tracked

    def send(self, times: int = 10) -> list[int]:
        """Numbers of the flows whose Events were settled."""
        settled = (self.delivery.send_next() for _ in range(times))
        return [tracked.flow.id for tracked in settled if tracked is not None]

    def named(self) -> list[str]:
        return list(self.server.events)


def test_what_has_something_to_say_is_written_once_and_noted() -> None:
    desk = Desk()
    tracked = desk.add(count=3)
    assert (desk.delivery.unposted, desk.delivery.due) == (2, desk.clock())
    assert len(desk.delivery.pending()) == 2
    assert desk.send() == [1, 1]
    assert desk.server.counts() == {"client": 3, "web-0": 3}
    assert (desk.delivery.unposted, desk.delivery.due, desk.delivery.pending()) == (0, None, [])
    assert {record.sent_count for record in desk.notebook.records.values()} == {3}
    desk.delivery.plan(tracked)
    assert desk.delivery.due is None


def test_an_event_of_a_flow_that_is_dropped_or_that_says_nothing_new_any_more_is_passed_over() -> None:
    desk = Desk()
    desk.add(1)
    desk.stages.drop(1)
    for record in desk.add(2).records.values():
        record.sent_count, record.sent_message = 1, record.message
    assert desk.send() == []
    assert desk.server.calls == []


def test_while_the_server_is_away_the_first_keeps_its_turn() -> None:
    desk = Desk()
    desk.server.errors = [ApiError("refused")]
    for number in (1, 2):
        desk.add(number)
        desk.clock.now += 1.0
    assert desk.send() == []
    assert desk.delivery.due is not None
    assert desk.delivery.due > desk.clock()
    assert desk.delivery.unposted == 4
    desk.clock.now += 5.0
    assert desk.send() == [1, 1, 2, 2]


def test_a_pause_begins_with_the_answer() -> None:
    desk = Desk()
    create = desk.server.create

    def slow(event: dict[str, Any]) -> None:
        desk.clock.now += 3.0
        create(event)

    desk.server.create = slow  # type: ignore[method-assign]
    desk.server.errors = [ApiError("busy", status=429, retry_after=5.0)] * 2
    desk.add()
    assert desk.send(2) == []
    assert desk.clock() == 1_006.0
    assert desk.delivery.due == 1_008.0, "of the first, which was answered at 1,003"


def test_what_is_too_old_is_given_up_and_what_there_is_no_room_for() -> None:
    desk = Desk()
    old = desk.add(1)
    desk.clock.now += 3601.0
    assert desk.delivery.is_too_old(old.flow)
    assert desk.send() == [1, 1]
    young = desk.add(2)
    assert not desk.delivery.is_too_old(young.flow)
    desk.delivery.give_up(young, "enough")
    assert desk.send() == []
    assert desk.server.calls == []
    assert desk.writes == {"given_up": 4}
    assert {record.given_up for record in desk.notebook.records.values()} == {"undeliverable for too long", "enough"}
    for tracked in (old, young):
        desk.delivery.forget(tracked)
    assert len(desk.delivery.chances) == 0


def test_what_an_earlier_run_may_have_written_without_noting_it_is_written_once_more() -> None:
    desk = Desk()
    tracked = desk.add(count=5)
    for record in tracked.records.values():
        record.sent_count, record.sent_message, record.writes = 3, record.message, 1
    desk.delivery.restore(tracked)
    assert {(record.tried, record.sent_message) for record in tracked.records.values()} == {(True, "")}
    assert len(desk.notebook.records) == 2, "nor by the next run"
    tracked.flow.count = 3
    assert len(desk.delivery.pending()) == 2, "its count looks right by chance"


# The last round


def last_round(*, retry: bool, errors: list[ApiError]) -> Desk:
    """Three flows with two Events each, none of which was written while they were held."""
    desk = Desk(hold=True)
    for number in (1, 2, 3):
        desk.add(number)
    assert (desk.send(), desk.delivery.due) == ([], None), "it is held"
    desk.server.errors = errors
    desk.delivery.last_round(retry=retry)
    assert desk.delivery.unposted == 6
    return desk


def test_in_the_last_round_all_is_written_in_its_order_also_what_would_have_waited_for_its_interval() -> None:
    desk = Desk()
    told = desk.add(7)
    desk.send()
    told.flow = flow(7, count=9, age=-desk.clock.now)
    desk.delivery.plan(told)
    desk.add(8)
    desk.add(3)
    desk.delivery.last_round(retry=False)
    assert desk.delivery.unposted == 4
    assert desk.send() == [3, 3, 7, 7, 8, 8]
    assert (desk.delivery.unposted, desk.delivery.due, desk.delivery.pending()) == (0, None, [])
    desk.add(9)
    assert desk.delivery.due is None, "nothing is planned any more"


@pytest.mark.parametrize(
    "error", [ApiError("not here", status=403), ApiError("webhook", status=500)], ids=["403", "500"]
)
def test_what_fails_by_itself_is_tried_again_after_all_others_or_not_at_all(error: ApiError) -> None:
    once = last_round(retry=False, errors=[copy(error)])
    assert once.send() == [1, 2, 2, 3, 3]
    assert once.delivery.due is None
    assert [record.key for _, record in once.delivery.pending()] == [(1, "src", CLIENT.uid)]
    assert once.delivery.unposted == 1
    again = last_round(retry=True, errors=[copy(error)])
    assert again.send() == [1, 2, 2, 3, 3]
    assert again.delivery.due is not None
    assert again.delivery.due > again.clock()
    again.clock.now = again.delivery.due
    assert again.send() == [1]
    assert (again.delivery.unposted, again.delivery.due) == (0, None)


def test_when_the_server_is_away_the_last_round_is_over_or_waits_in_its_order() -> None:
    once = last_round(retry=False, errors=[ApiError("refused")])
    once.clock.now += 10.0
    assert once.send(1) == []
    assert (once.delivery.due, len(once.delivery.pending()), once.delivery.unposted) == (None, 6, 6)
    again = last_round(retry=True, errors=[ApiError("refused")] * 2)
    for _ in range(2):
        assert again.send() == []
        assert again.delivery.due is not None
        assert again.delivery.due > again.clock()
        again.clock.now = again.delivery.due
    assert again.send() == [1, 1, 2, 2, 3, 3]
    assert again.named() == [f"{name}.{number}" for number in (1, 2, 3) for name in ("client", "web-0")]


# Notes


def test_notes_are_stored_soon_and_all_at_once_and_a_full_disk_is_no_matter() -> None:
    clock, stored = Clock(), []

    class Disk(Notebook):
        def write_notes(self) -> None:
            stored.append(len(self.records))
            raise StateError("database or disk is full")

    notes = Notes(Disk(), clock)
    notes.write_if_due()
    for number in (1, 2):
        notes.add(EventRecord(number, "src", CLIENT, "e", "text"))
        notes.write_if_due()
    assert stored == []
    assert notes.due is not None
    clock.now = notes.due
    notes.write_if_due()
    assert (stored, notes.due) == ([2], None)
