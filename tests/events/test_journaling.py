"""Flow records: when they are written, how fast, and what becomes of those that the journal does not take."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.events import journaling
from kiptail.events.flow_record import MESSAGE_IDS
from kiptail.events.journaling import BURST, RATE
from kiptail.events.stages import Stage
from kiptail.flows.flow import Flow
from tests.events.test_poster import HEIR, Bench, flow
from tests.events.test_recorder import Hand

_STRETCHES = {message_id: stretch.value for stretch, message_id in MESSAGE_IDS.items()}


class Journal:
    """journald."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []
        self.full = False
        self.tries = 0

    def write(self, fields: Mapping[str, str]) -> None:
        self.tries += 1
        if self.full:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.entries.append(dict(fields))

    def told(self) -> list[tuple[str, str, int]]:
        """Stretch, pod and count of each record."""
        return [
            (_STRETCHES[entry["MESSAGE_ID"]], entry["KIPTAIL_POD"], int(entry["KIPTAIL_COUNT"]))
            for entry in self.entries
        ]

    def last(self) -> dict[str, int]:
        """The count of the last record of each series, by pod."""
        series = {entry["KIPTAIL_FLOW"]: entry for entry in self.entries}
        return {entry["KIPTAIL_POD"]: int(entry["KIPTAIL_COUNT"]) for entry in series.values()}


def story(**options: Any) -> tuple[Hand, Journal]:
    journal = Journal()
    return Hand(records=journal, **options), journal


def restarted(hand: Hand, stored: Flow, journal: Journal) -> Hand:
    """Another recorder that goes on with what this one stored."""
    again = Hand(records=journal)
    again.clock.now = hand.clock.now
    again.server.events, again.directory.owners = hand.server.events, hand.directory.owners
    again.notebook.records = {key: copy(record) for key, record in hand.notebook.records.items()}
    again.notebook.endpoints = hand.notebook.endpoints
    records = [copy(record) for key, record in hand.notebook.records.items() if key[0] == stored.id]
    again.recorder.restore(stored, hand.notebook.endpoints.get(stored.id, {}), records)
    again.steps()
    return again


def test_a_flow_is_recorded_when_it_is_placed_when_it_has_grown_and_when_it_has_ended() -> None:
    hand, journal = story()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    assert journal.told() == [("placed", "client", 3), ("placed", "web-0", 3)]
    hand.recorder.arrive(flow(1, count=4))
    hand.clock.now += 30.0
    hand.steps()
    hand.recorder.arrive(flow(1, count=5))
    hand.steps()
    assert len(journal.entries) == 2, "not before the interval is over"
    hand.clock.now += 30.0
    hand.steps()
    assert journal.told()[2:] == [("grown", "client", 5), ("grown", "web-0", 5)]
    hand.recorder.arrive(flow(1, count=6, ended=True))
    hand.steps()
    assert journal.told()[4:] == [("ended", "client", 6), ("ended", "web-0", 6)]
    hand.clock.now += 600.0
    hand.steps()
    assert len(journal.entries) == 6
    assert len({entry["KIPTAIL_FLOW"] for entry in journal.entries}) == 2


def test_nothing_is_recorded_before_it_is_known_whose_it_is() -> None:
    hand, journal = story()
    hand.directory.strangers = {"10.0.0.1", "10.0.0.2"}
    hand.recorder.arrive(flow(1))
    hand.steps()
    assert journal.entries == []
    hand.directory.strangers = set()
    hand.clock.now += 1.0
    hand.steps()
    assert journal.told() == [("placed", "client", 1), ("placed", "web-0", 1)]


def test_a_flow_that_has_ended_meanwhile_has_both_records() -> None:
    hand, journal = story()
    hand.recorder.arrive(flow(1, count=2, dst="192.0.2.7", ended=True))
    hand.clock.now += 5.0
    hand.steps()
    assert journal.told() == [("placed", "client", 2), ("ended", "client", 2)]


def test_the_journal_is_written_while_the_api_server_is_away() -> None:
    hand, journal = story()
    hand.server.errors = [ApiError("refused")] * 1_000
    hand.recorder.arrive(flow(1, count=2))
    hand.steps()
    hand.recorder.arrive(flow(1, count=3, ended=True))
    hand.steps()
    assert journal.told() == [
        ("placed", "client", 2), ("placed", "web-0", 2), ("ended", "client", 3), ("ended", "web-0", 3)
    ]  # fmt: skip
    assert hand.server.events == {}


def test_a_restart_repeats_nothing_and_goes_on_from_what_was_recorded() -> None:
    hand, journal = story()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    before = len(journal.entries)
    again = restarted(hand, flow(1, count=3), journal)
    assert len(journal.entries) == before
    third = restarted(again, flow(1, count=7, ended=True), journal)
    assert journal.told()[before:] == [("ended", "client", 7), ("ended", "web-0", 7)]
    assert len({entry["KIPTAIL_FLOW"] for entry in journal.entries}) == 2
    restarted(third, flow(1, count=7, ended=True), journal)
    assert len(journal.entries) == before + 2


@pytest.mark.parametrize("noted", [False, True])
def test_what_a_crash_may_have_kept_from_being_noted_is_written_once_more_as_it_is_by_now(noted: bool) -> None:
    hand, journal = story()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    hand.clock.now += 60.0
    kept = {key: copy(record) for key, record in hand.notebook.records.items()}
    hand.recorder.arrive(flow(1, count=5))
    hand.clock.now += 60.0
    hand.steps()
    assert journal.last() == {"client": 5, "web-0": 5}
    if not noted:
        hand.notebook.records = kept
    again = restarted(hand, flow(1, count=5), journal)
    # Of the five, two turn out to be another flow's, as many as were not noted.
    again.recorder.arrive(flow(1, count=3))
    again.clock.now += 60.0
    again.steps()
    assert journal.last() == {"client": 3, "web-0": 3}
    assert [stretch for stretch, *_ in journal.told()].count("placed") == 2


def test_a_first_record_that_was_not_noted_is_taken_back_where_it_was_wrong() -> None:
    hand, journal = story()
    hand.recorder.delivery.turns.hold = True
    hand.recorder.arrive(flow(1, count=3))
    hand.recorder.attribute_waiting()
    kept = {key: copy(record) for key, record in hand.notebook.records.items()}
    hand.steps()
    assert journal.last() == {"client": 3, "web-0": 3}
    hand.notebook.records = kept
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    stored = flow(1, count=3)
    again = Hand(records=journal)
    again.directory.owners = hand.directory.owners
    again.recorder.restore(stored, hand.notebook.endpoints[1], list(kept.values()))
    again.recorder.awaiting.reattribute({"10.0.0.1"})
    again.recorder.attribute_waiting()
    again.clock.now += 1.0
    again.steps()
    assert journal.last() == {"client": 0, "web-0": 3, "heir": 3}


def test_a_pod_that_was_wrong_is_recorded_with_no_packets_and_the_right_one_with_all() -> None:
    """Also where the API server never heard of the first one."""
    hand, journal = story()
    hand.server.errors = [ApiError("refused")] * 20
    hand.recorder.delivery.turns.hold = True
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    hand.clock.now += 1.0
    hand.steps()
    # The other end's is said once more, for its last record named the wrong one.
    assert journal.told()[2:] == [("ended", "client", 0), ("grown", "web-0", 3), ("placed", "heir", 3)]
    assert journal.entries[3]["KIPTAIL_PEER"] == "team-b/heir"
    assert journal.entries[2]["MESSAGE"].endswith("counted for another pod since (x0)")
    assert not any(record.pod.name == "client" for _, record in hand.recorder.delivery.pending())
    again = restarted(hand, flow(1, count=3), journal)
    assert len(journal.entries) == 5
    hand.directory.owners["10.0.0.1"] = hand.directory.owners["10.0.0.2"]
    again.recorder.awaiting.reattribute({"10.0.0.1"})
    again.clock.now += 1.0
    again.steps()
    assert journal.last()["heir"] == 0


def test_without_a_sink_there_are_none_and_nothing_waits_for_them() -> None:
    hand = Hand()
    hand.recorder.arrive(flow(1, count=3, ended=True))
    hand.steps()
    assert hand.recorder.journaling.due is None
    assert not any(record.recorded for record in hand.notebook.records.values())
    assert hand.recorder.stages.count(Stage.RESTING) == 1


def test_a_journal_that_takes_nothing_is_tried_again_and_delays_no_event() -> None:
    hand, journal = story()
    journal.full = True
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    assert hand.posted() == [("client", 3), ("web-0", 3)]
    assert (journal.tries, hand.recorder.progress.records.failed) == (1, 1)
    journal.full = False
    hand.steps()
    assert journal.entries == [], "not at once"
    hand.clock.now += 1.0
    hand.steps()
    assert journal.told() == [("placed", "client", 3), ("placed", "web-0", 3)]
    assert hand.recorder.progress.records.written == 2


def test_a_flow_that_has_ended_is_kept_for_its_last_record() -> None:
    hand, journal = story()
    journal.full = True
    hand.recorder.settled_us = 2**62
    hand.recorder.arrive(flow(1, count=3, ended=True))
    hand.steps()
    assert hand.posted() == [("client", 3), ("web-0", 3)]
    assert hand.notebook.forgotten == []
    journal.full = False
    hand.clock.now += 1.0
    hand.steps()
    assert journal.last() == {"client": 3, "web-0": 3}
    assert hand.notebook.forgotten == [1]


def test_flows_that_are_kept_for_their_records_are_bounded_and_those_left_out_are_counted() -> None:
    hand, journal = story(most_ended=5)
    journal.full = True
    hand.recorder.settled_us = 2**62
    for number in range(1, 21):
        hand.recorder.arrive(flow(number, count=3, ended=True))
        hand.steps()
    assert len(hand.recorder.stages) == 5
    assert hand.recorder.progress.records.left_out == 30
    journal.full = False
    hand.clock.now += 1.0
    hand.steps()
    assert len(hand.recorder.stages) == 0
    assert len(journal.entries) == 20


def test_a_flood_is_written_at_a_bounded_pace_and_in_full() -> None:
    hand, journal = story()
    for number in range(1, 1_001):
        hand.recorder.arrive(flow(number, dst="192.0.2.7"))
    hand.steps(30)
    assert len(journal.entries) == BURST
    hand.clock.now += 1.0
    hand.steps(30)
    assert len(journal.entries) == pytest.approx(BURST + RATE, abs=1)
    for _ in range(20):
        hand.clock.now += 1.0
        hand.steps(3)
    assert len(journal.entries) == 1_000
    assert hand.recorder.progress.records.left_out == 0


def test_what_rests_has_no_time_for_records_in_its_own_way() -> None:
    hand, _ = story()
    hand.recorder.arrive(flow(1, dst="192.0.2.7"))
    assert hand.recorder.pause() <= 0
    hand.clock.now += 5.0
    hand.steps()
    hand.clock.now += 0.25
    hand.steps(1)
    assert hand.recorder.pause() > 50


def test_a_stop_writes_the_last_counts_of_flows_that_go_on() -> None:
    journal = Journal()
    bench = Bench(records=journal, repeat_interval=3_600.0).start()
    bench.poster.offer([flow(1, count=3)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 3, "web-0": 3})
    bench.poster.offer([flow(1, count=8)])
    bench.poster.finish(5.0)
    assert journal.told()[2:] == [("grown", "client", 8), ("grown", "web-0", 8)]


def test_a_stop_writes_no_more_than_journald_takes_from_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journaling, "_LAST_MOST", 3)
    hand, journal = story()
    for number in range(1, 6):
        hand.recorder.arrive(flow(number))
    hand.recorder.attribute_waiting()
    hand.recorder.journaling.write_all(60.0)
    assert len(journal.entries) == 3


def test_a_stop_does_not_wait_long_for_a_journal_that_takes_nothing() -> None:
    journal = Journal()
    journal.full = True
    bench = Bench(records=journal).start()
    bench.poster.offer([flow(1, count=3)])
    assert bench.poster.finish(5.0) == 0
    assert bench.sink.counts() == {"client": 3, "web-0": 3}
    assert journal.entries == []
