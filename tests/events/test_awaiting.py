"""Which flows are looked at, when, and for how long they wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kiptail.errors import StateError
from kiptail.events.attribution import Attributor
from kiptail.events.awaiting import PATIENCE, PATIENCE_WHILE_BLIND, Awaiting
from kiptail.events.event import EventStyle
from kiptail.events.stages import Stages, Tracked
from kiptail.events.wording import Wording
from tests.events.test_poster import HEIR, Directory, Notebook, flow
from tests.support.clock import Clock


class Disk(Notebook):
    """An outbox whose disk may be full."""

    full = False

    def save_endpoints(self, flow_id: int, endpoints: Mapping[str, Any], records: Any) -> None:
        if self.full:
            raise StateError("database or disk is full")
        super().save_endpoints(flow_id, endpoints, records)


class Hall:
    """Flows that wait, and all around them; nobody is at 10.0.0.2 for the moment."""

    def __init__(self) -> None:
        self.clock, self.directory, self.disk, self.stages = Clock(), Directory(), Disk(), Stages()
        self.directory.strangers = {"10.0.0.2"}
        self.uncut: set[str] = set()
        style = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
        wording = Wording(style, self.stages, repeat_interval=60.0)
        attributor = Attributor(self.directory, self.disk, wording, self.stages)
        self.awaiting = Awaiting(attributor, self.stages, clock=self.clock, uncut=self.uncut.__contains__)

    def add(self, number: int = 1, **options: Any) -> Tracked:
        tracked = Tracked(flow(number, **options), self.clock())
        self.stages.track(tracked)
        self.awaiting.add(tracked)
        return tracked

    def look(self, **options: Any) -> list[tuple[int, bool]]:
        return [(looked.tracked.flow.id, looked.decided) for looked in self.awaiting.look(**options)]

    def look_later(self, seconds: float = 1.0) -> list[tuple[int, bool]]:
        self.clock.now += seconds
        return self.look()


def test_who_is_known_is_found_at_once_and_who_is_not_is_waited_for() -> None:
    hall = Hall()
    hall.add(1)
    hall.add(2, dst="10.0.0.4")
    assert hall.awaiting.due == 0.0
    assert hall.look() == [(1, False), (2, True)]
    assert len(hall.awaiting) == 1
    assert hall.look() == [], "not all the time"
    assert hall.awaiting.due is not None
    assert hall.awaiting.due > hall.clock()
    assert hall.look_later() == [(1, False)]
    hall.directory.strangers = set()
    hall.awaiting.look_again()
    assert hall.look() == [(1, True)]
    assert (len(hall.awaiting), hall.awaiting.due) == (0, None)


def test_it_is_waited_longer_while_nothing_is_heard() -> None:
    hall = Hall()
    hall.add(1)
    hall.directory.is_current = False
    assert hall.look_later(PATIENCE) == [(1, False)]
    hall.directory.is_current = True
    assert hall.look_later() == [(1, True)]
    hall.directory.is_current = False
    hall.add(2)
    assert hall.look_later(PATIENCE_WHILE_BLIND - 1) == [(2, False)]
    assert hall.look_later() == [(2, True)]


def test_nobody_is_looked_for_before_the_index_is_complete_or_the_flow_is_cut() -> None:
    hall = Hall()
    hall.directory.strangers, hall.directory.is_ready = set(), False
    hall.add(1)
    assert hall.look_later() == []
    hall.directory.is_ready = True
    hall.uncut.add("10.0.0.2")
    assert hall.awaiting.uncut()
    assert hall.look_later() == []
    hall.uncut.clear()
    assert not hall.awaiting.uncut()
    assert hall.look_later() == [(1, True)]


def test_at_the_end_nobody_is_waited_for_and_guesses_are_left_to_the_next_start() -> None:
    hall = Hall()
    hall.add(1)
    hall.add(2)
    hall.directory.contested_addresses = {"10.0.0.2"}
    assert hall.look(final=True, leave=True) == []
    assert hall.look(final=True) == [(1, True), (2, True)]


def test_while_the_state_cannot_be_written_nothing_is_decided() -> None:
    hall = Hall()
    hall.directory.strangers = set()
    hall.disk.full = True
    tracked = hall.add()
    assert hall.look() == []
    assert tracked.endpoints == {}
    hall.disk.full = False
    assert hall.look_later(0.5) == [], "the disk is given a second"
    assert hall.look_later(0.5) == [(1, True)]


def test_owners_are_attributed_anew_where_they_may_be_others_and_only_changes_are_counted() -> None:
    hall = Hall()
    hall.directory.strangers = set()
    tracked = hall.add()
    assert hall.look() == [(1, True)]
    hall.awaiting.reattribute({"10.9.9.9"})
    assert len(hall.awaiting) == 0
    for owner, changes in ((hall.directory.owners["10.0.0.1"][0], 0), (HEIR, 1)):
        hall.directory.owners["10.0.0.1"] = (owner,)
        hall.awaiting.reattribute({"10.0.0.1"})
        assert hall.look() == [(1, True)]
        assert hall.awaiting.reattributed == changes
    assert tracked.endpoints["src"].pods == (HEIR,)


def test_a_flow_that_is_cut_is_attributed_anew_and_one_that_only_grows_is_not() -> None:
    hall = Hall()
    hall.directory.strangers = set()
    tracked = hall.add(count=5)
    assert hall.look() == [(1, True)]
    before = tracked.flow
    tracked.flow = replace(before, count=9)
    hall.awaiting.changed(tracked, before)
    assert len(hall.awaiting) == 0
    tracked.flow = replace(before, opened_us=before.opened_us + 1)
    hall.awaiting.changed(tracked, before)
    assert len(hall.awaiting) == 1
    assert hall.look() == [(1, True)]
    tracked.flow = replace(before, count=0)
    hall.awaiting.changed(tracked, before)
    assert all(record.withdrawn for record in tracked.records.values())


@pytest.fixture
def written() -> tuple[Hall, Tracked]:
    """A flow between two pods whose Events the API server may have."""
    hall = Hall()
    hall.directory.strangers = set()
    tracked = hall.add(count=5)
    assert hall.look() == [(1, True)]
    for record in tracked.records.values():
        record.tried = True
    return hall, tracked


def test_a_flow_that_lost_its_drops_while_the_disk_was_full_has_its_events_withdrawn_later(
    written: tuple[Hall, Tracked],
) -> None:
    """Its ends are whose they were: only its Events are others."""
    hall, tracked = written
    before, tracked.flow = tracked.flow, replace(tracked.flow, count=0)
    hall.disk.full = True
    hall.awaiting.changed(tracked, before)
    assert hall.look() == []
    hall.disk.full = False
    assert hall.look_later() == [(1, True)]
    assert [record.withdrawn for record in tracked.records.values()] == [True, True]
    assert [record.withdrawn for record in hall.disk.records.values()] == [True, True]


def test_the_same_where_an_earlier_run_could_not_store_it_any_more(written: tuple[Hall, Tracked]) -> None:
    hall, tracked = written
    tracked.flow = replace(tracked.flow, count=0)
    hall.awaiting.reopen(tracked)
    assert hall.look() == [(1, True)]
    assert [record.withdrawn for record in hall.disk.records.values()] == [True, True]


def test_a_flow_that_tells_of_another_end_while_the_disk_was_full_gets_that_event_later() -> None:
    hall = Hall()
    hall.directory.strangers = set()
    tracked = hall.add()
    tracked.flow = before = replace(tracked.flow, ends=("src",))
    assert hall.look() == [(1, True)]
    tracked.flow = replace(before, ends=("src", "dst"))
    hall.disk.full = True
    hall.awaiting.changed(tracked, before)
    hall.disk.full = False
    assert {end for end, _ in tracked.records} == {"src"}
    assert hall.look() == [(1, True)]
    assert {end for _, end, _ in hall.disk.records} == {"src", "dst"}


def test_names_that_come_late_are_put_in() -> None:
    hall = Hall()
    hall.directory.unnamed = True
    tracked = hall.add(dst="192.0.2.7")
    assert hall.look() == [(1, False)]
    assert hall.look_later(PATIENCE) == [(1, True)]
    assert (len(hall.awaiting), hall.awaiting.due) == (0, None), "news wakes us"
    hall.directory.unnamed = False
    hall.awaiting.look_again()
    assert hall.awaiting.due == hall.clock()
    assert hall.look() == [(1, False)]
    assert tracked.endpoints["dst"].name == "db.example.com"
    assert hall.look_later() == []
    hall.directory.cluster_names = {"192.0.2.7": "node/worker-9"}
    assert list(hall.awaiting.names.rename_strangers()) == [tracked]
    assert tracked.endpoints["dst"].name == "node/worker-9"


def test_an_owner_that_may_still_turn_out_is_asked_for_again() -> None:
    hall = Hall()
    hall.directory.awaited = {"10.0.0.2"}
    tracked = hall.add()
    assert hall.look(final=True) == [(1, True)]
    hall.directory.strangers = hall.directory.awaited = set()
    hall.awaiting.ask_again(tracked)
    assert hall.look_later() == [(1, True)]
    hall.awaiting.ask_again(tracked)
    assert len(hall.awaiting) == 0


def test_who_is_dropped_waits_no_longer() -> None:
    hall = Hall()
    hall.add()
    hall.awaiting.drop(1)
    assert (len(hall.awaiting), hall.awaiting.due, hall.look()) == (0, None, [])
